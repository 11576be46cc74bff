package provisioner

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/witness"
	"github.com/llama-orch/engine-provisioner/settings"
)

// The key of a running engine is found where the shell does not have its variable.
func TestEngineKey(t *testing.T) {
	t.Setenv("ENGINE_PROVISIONER_TEST_KEY", "sesame")
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.APIKey = &settings.SecretRef{FromEnv: "ENGINE_PROVISIONER_TEST_KEY"}
	p, _ := ready(t, cfg)
	if err := os.Unsetenv("ENGINE_PROVISIONER_TEST_KEY"); err != nil {
		t.Fatal(err)
	}
	other, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	count, err := other.counter(other.run, patience)
	if err != nil {
		t.Fatal(err)
	}
	if n, _, err := count(bounded(t)); n != 0 || err != nil {
		t.Errorf("%d requests (%v)", n, err)
	}
	if err := other.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

// A key that only its engine still has drains it, opens the hooks that name it, and is the next manager's.
func TestOnlyTheEngineHasItsKey(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"attached", "recovered"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			cfg := busyConfig(t, requestTime)
			key := filepath.Join(cfg.Dir, "key")
			if err := os.WriteFile(key, []byte("# ours\nsesame\ntheirs\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg.APIKey = &settings.SecretRef{FromFile: "key"}
			router := newRouter(t, func(http.ResponseWriter, *http.Request) {})
			named := func(file string) settings.DrainHook {
				return settings.DrainHook{HTTP: &settings.HTTPHook{URL: router.URL, Headers: map[string]settings.EnvValue{"X-Key": {Secret: &settings.SecretRef{FromFile: file}}}}}
			}
			if err := os.WriteFile(filepath.Join(cfg.Dir, "other"), []byte("another\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg.Drain.Hooks = []settings.DrainHook{named("other"), named("key")}
			p, _ := ready(t, cfg)
			p.Release()
			for _, gone := range []string{"key", "other"} {
				if err := os.Remove(filepath.Join(cfg.Dir, gone)); err != nil {
					t.Fatal(err)
				}
			}
			j := &journal{}
			var stops *EngineProvisioner
			if who == "attached" {
				var err error
				if stops, err = Attach(cfg.StateDir, poolR0, WithEventFunc(j.add)); err != nil {
					t.Fatal(err)
				}
			} else {
				adopted, _, err := Recover(bounded(t), cfg.StateDir, WithEventFunc(j.add))
				if err != nil || len(adopted) != 1 {
					t.Fatalf("%v, %v", adopted, err)
				}
				stops = adopted[0]
				if notes := j.notes(); notes != "" {
					t.Errorf("notes: %s", notes)
				}
				if _, err := stops.run.prober(settings.Duration(patience)).Requests(bounded(t), probe.Field{}, *witness.Gauges(stops.run.rec.Launch.Spec.LaunchSpec)); err != nil {
					t.Errorf("it has no key: %v", err)
				}
			}
			if err := stops.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
			if calls, got := router.calls(), router.got.Get("X-Key"); len(calls) != 1 || got != "sesame" {
				t.Errorf("%q, with the key %q", calls, got)
			}
			// The engine's key is no answer to other references.
			wantNote(t, j, "the hook drain.hooks[0] (http) failed: headers.X-Key: cannot read the secret")
			if notes := j.notes(); strings.Contains(notes, "not waited for") || strings.Contains(notes, "hooks[1]") || strings.Contains(notes, "sesame") {
				t.Errorf("notes: %s", notes)
			}
			nothingLeft(t, stops)
		})
	}
}
