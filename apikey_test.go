package provisioner

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/settings"
)

// A key that cannot reach the engine as it is, or that no client could send, is refused before anything runs.
func TestKeyThatCannotBeCarried(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"abc,canary":                          `the key holds ",", at which the engine splits LLAMA_API_KEY`,
		" canary":                             "begins or ends with a blank",
		"canary ":                             "begins or ends with a blank",
		"canary-é":                            "beyond ASCII",
		"canary" + strings.Repeat("x", 4<<10): "the key has 4102 bytes",
	} {
		cfg := fakeConfig(t, enginetest.Behavior{})
		file := filepath.Join(cfg.Dir, "key")
		if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.APIKey = &settings.SecretRef{FromFile: file}
		p, _ := newLaunch(t, cfg)
		err := p.Start(bounded(t))
		wantText(t, err, "cannot start: api_key: ", want, "[unauthorized]")
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("the key is told: %v", err)
		}
		if !IncidentOf(err).Permanent {
			t.Errorf("it is tried again: %v", err)
		}
		if _, err := os.Stat(cfg.StateDir); err == nil {
			t.Error("something was done before that")
		}
	}
}

// Only a variable that takes a list splits.
func TestKeyWithACommaForOthers(t *testing.T) {
	t.Parallel()
	for e, refused := range map[Engine]bool{llamacpp.Engine{}: true, vllm.Engine{}: false, tgi.Engine{}: false} {
		spec, err := launchOf(e, launchConfig(e), engine.Host{})
		if err != nil {
			t.Fatal(err)
		}
		if err := probe.CheckKey(secret.Of("a,b"), spec.KeySeparator, spec.KeyEnv); (err != nil) != refused {
			t.Errorf("%s: %v", e.Name(), err)
		}
		if err := probe.CheckKey(secret.Of("a b+/=~."), spec.KeySeparator, spec.KeyEnv); err != nil {
			t.Errorf("%s: %v", e.Name(), err)
		}
	}
}

// 401 says nothing of the model, and is not cured by another load.
func TestEngineThatRefusesOurKey(t *testing.T) {
	t.Parallel()
	for name, keyed := range map[string]bool{"another key": true, "no key": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			want := `the engine asks for a key, and there is no "api_key": `
			if keyed {
				file := filepath.Join(cfg.Dir, "key")
				if err := os.WriteFile(file, []byte("canary"), 0o600); err != nil {
					t.Fatal(err)
				}
				cfg.APIKey = &settings.SecretRef{FromFile: file}
				want = `the engine refuses the key of "api_key": `
			}
			// What a wrapper or a file of keys does.
			script(t, &cfg, "export LLAMA_API_KEY=another\nexec '"+cfg.Provisioning.Binary.Path+"' \"$@\"")
			p, _ := started(t, cfg)
			_, err := p.WaitReady(bounded(t))
			var notReady *NotReadyError
			if !errors.As(err, &notReady) || notReady.Cause != engine.CauseUnauthorized || notReady.Retry {
				t.Fatalf("%T: %v", err, err)
			}
			wantText(t, err, want+"/props answers 401 Unauthorized: Invalid API Key", "[unauthorized]")
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the key is told: %v", err)
			}
		})
	}
}

// A file may hold several keys, where the engine takes several.
func TestSeveralKeys(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		engine     Engine
		text, want string // of the variable, or of the error
		wrong      bool
	}{
		{engine: llamacpp.Engine{}, text: "canary\n", want: "canary"},
		{engine: llamacpp.Engine{}, text: "#canary\n", want: "#canary"}, // alone, it is the key
		{engine: llamacpp.Engine{}, text: "\n# first\n\r\ncanary\r\n#\nb", want: "canary,b"},
		{engine: vllm.Engine{}, text: "# first\ncanary\n", want: "canary"},
		{engine: vllm.Engine{}, text: "canary\nb\n", want: "holds 2 keys, one a line, and vllm takes one; leave one line in it", wrong: true},
		{engine: llamacpp.Engine{}, text: "canary\nb,c\n", want: `the key holds ","`, wrong: true},
		{engine: llamacpp.Engine{}, text: "canary\n b\n", want: "begins or ends with a blank", wrong: true},
		{engine: llamacpp.Engine{}, text: "canary\nb\x00c\n", want: "holds a control character", wrong: true},
		{engine: llamacpp.Engine{}, text: "# canary\n#\n", want: "holds no key", wrong: true},
		{engine: llamacpp.Engine{}, text: "\n", want: "is empty", wrong: true},
	} {
		cfg := launchConfig(tt.engine)
		cfg.Dir, cfg.APIKey = t.TempDir(), &settings.SecretRef{FromFile: "keys"}
		if err := os.WriteFile(filepath.Join(cfg.Dir, "keys"), []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &EngineProvisioner{cfg: cfg, engine: tt.engine}
		keys, err := readKeys(*cfg.APIKey, cfg)
		if err == nil {
			err = p.checkKeys(keys)
		}
		if tt.wrong {
			wantText(t, err, tt.want)
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the key is told: %v", err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		spec, _ := launchOf(tt.engine, cfg, engine.Host{})
		got := ""
		for _, v := range environment(cfg, spec, nil, secrets{keys: keys}, nil) {
			if v.Name == spec.KeyEnv {
				got = v.value
			}
		}
		if got != tt.want || keys.First().Reveal() != strings.Split(tt.want, ",")[0] {
			t.Errorf("%q: the variable is %q, and %q is presented; want %q", tt.text, got, keys.First().Reveal(), tt.want)
		}
	}
}
