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
	"github.com/llama-orch/engine-provisioner/internal/secret"
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
		cfg.APIKey = &SecretRef{FromFile: file}
		p, _ := newLaunch(t, cfg)
		err := p.Start(bounded(t))
		wantText(t, err, "cannot start: api_key: ", want, "[unauthorized]")
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("the key is told: %v", err)
		}
		if !incidentOf(err).Permanent {
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
		spec, err := launchOf(e, launchCase{}.config(e), engine.Host{})
		if err != nil {
			t.Fatal(err)
		}
		if err := checkKey(secret.Of("a,b"), spec); (err != nil) != refused {
			t.Errorf("%s: %v", e.Name(), err)
		}
		if err := checkKey(secret.Of("a b+/=~."), spec); err != nil {
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
				cfg.APIKey = &SecretRef{FromFile: file}
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
