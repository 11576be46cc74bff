package main

import (
	"errors"
	"slices"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// What the engine describes can be compared; nothing has to run.
func TestLaunch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		cfg     provisioner.ProvisionConfig
		want    []string
		problem string
	}{
		{
			name: "its own flags",
			cfg:  provisioner.ProvisionConfig{Host: "127.0.0.1", Port: 8081},
			want: []string{"-m", "http.server", "--bind", "127.0.0.1", "--directory", "/srv", "8081"},
		},
		{
			name: "the user's flags come last",
			cfg:  provisioner.ProvisionConfig{Host: "::1", Port: 8082, Flags: []string{"--protocol", "HTTP/1.1"}},
			want: []string{"-m", "http.server", "--bind", "::1", "--directory", "/srv", "8082", "--protocol", "HTTP/1.1"},
		},
		{
			name:    "a key that nobody would ask for",
			cfg:     provisioner.ProvisionConfig{APIKey: &provisioner.SecretRef{FromEnv: "KEY"}},
			problem: "api_key",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spec, err := fileServer{}.Launch(tt.cfg, provisioner.Host{ModelPath: "/srv"})
			var config *provisioner.ConfigError
			if errors.As(err, &config) {
				if len(config.Problems) != 1 || config.Problems[0].Key != tt.problem {
					t.Fatalf("problems: %v, want one of %q", config.Problems, tt.problem)
				}
				return
			}
			if err != nil || tt.problem != "" {
				t.Fatalf("error %v, want a problem of %q", err, tt.problem)
			}
			var got []string
			for _, f := range spec.Flags {
				got = append(got, f.Args...)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("command line:\n got %q\nwant %q", got, tt.want)
			}
			if spec.Health == "" || spec.Grace <= 0 {
				t.Errorf("health %q, grace %s", spec.Health, spec.Grace)
			}
		})
	}
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	parse := fileServer{}.Program(provisioner.ProvisionConfig{}).ParseVersion
	for output, want := range map[string]string{"Python 3.13.5\n": "3.13.5", "Perl 5": ""} {
		version, _, err := parse(output)
		if version != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", output, version, err, want)
		}
	}
}
