package files

import (
	"errors"
	"slices"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
)

// What the engine describes can be compared; nothing has to run.
func TestLaunch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		request engine.Request
		want    []string // the command line
		problem string   // the key of the one problem
	}{
		{
			name:    "its own flags",
			request: engine.Request{Host: "127.0.0.1", Port: 8081},
			want:    []string{"-m", "http.server", "--bind", "127.0.0.1", "--directory", "/srv", "8081"},
		},
		{
			name:    "the user's flags come last",
			request: engine.Request{Host: "::1", Port: 8082, Flags: []string{"--protocol", "HTTP/1.1"}},
			want:    []string{"-m", "http.server", "--bind", "::1", "--directory", "/srv", "8082", "--protocol", "HTTP/1.1"},
		},
		{
			name:    "a key that nobody would ask for",
			request: engine.Request{HasKey: true},
			problem: "api_key",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			spec, err := Engine{}.Launch(test.request, engine.Host{ModelPath: "/srv"})
			if config, ok := errors.AsType[*engine.ConfigError](err); ok && test.problem != "" {
				if len(config.Problems) != 1 || config.Problems[0].Key != test.problem {
					t.Errorf("problems: %v, want one of %q", config.Problems, test.problem)
				}
				return
			}
			if err != nil || test.problem != "" {
				t.Fatalf("error %v, want a problem of %q", err, test.problem)
			}
			if got := args(spec.Flags); !slices.Equal(got, test.want) {
				t.Errorf("command line:\n got %q\nwant %q", got, test.want)
			}
			if spec.Health == "" || spec.Grace <= 0 {
				t.Errorf("health %q, grace %s", spec.Health, spec.Grace)
			}
		})
	}
}

// args is the command line that flags make.
func args(flags []engine.Flag) []string {
	var all []string
	for _, f := range flags {
		all = append(all, f.Args...)
	}
	return all
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	parse := Engine{}.Program(engine.Request{}).ParseVersion
	for output, want := range map[string]string{"Python 3.13.5\n": "3.13.5", "Perl 5": ""} {
		version, _, err := parse(output)
		if version != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", output, version, err, want)
		}
	}
}
