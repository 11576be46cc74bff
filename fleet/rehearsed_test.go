package fleet

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/settings"
)

// hubCache is a cache of the hub with a model in several commits.
type hubCache struct{ dir string }

func (c hubCache) commit(t *testing.T, commit string) (model string) {
	t.Helper()
	model = filepath.Join(c.dir, "models--org--chat/snapshots", commit, "chat-Q4_K_M.gguf")
	if err := os.MkdirAll(filepath.Dir(model), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := ggufgen.WriteFile(model, ggufgen.Params{}); err != nil {
		t.Fatal(err)
	}
	return model
}

// point has the branch be a commit.
func (c hubCache) point(commit string) error {
	refs := filepath.Join(c.dir, "models--org--chat/refs")
	if err := os.MkdirAll(refs, 0o777); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(refs, "main"), []byte(commit), 0o600)
}

// A reload and a restart start what they have rehearsed, although the branch moves while the old engine drains; the next
// launch is of what the branch is then.
func TestWhatWasRehearsedIsStarted(t *testing.T) {
	t.Parallel()
	first, second := strings.Repeat("01", 20), strings.Repeat("02", 20)
	for name, change := range map[string]func(f *Fleet, cfg provisioner.ProvisionConfig, contextSize string) error{
		"reload": func(f *Fleet, cfg provisioner.ProvisionConfig, contextSize string) error {
			cfg.Flags = []string{"--ctx-size", contextSize}
			return f.Reload(context.Background(), cfg)
		},
		"restart": func(f *Fleet, _ provisioner.ProvisionConfig, _ string) error {
			return f.Restart(context.Background(), poolR0, provisioner.StopOptions{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := hubCache{t.TempDir()}
			rehearsed, moved := cache.commit(t, first), cache.commit(t, second)
			if err := cache.point(first); err != nil {
				t.Fatal(err)
			}
			cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
			cfg.Model.ID = "hf:org/chat:Q4_K_M"
			cfg.Env = map[string]settings.EnvValue{"HF_HUB_CACHE": {Value: cache.dir}, "HF_HUB_OFFLINE": {Value: "1"}}
			moves := provisioner.WithDrainHook("the branch moves", func(context.Context, provisioner.Handoff) error { return cache.point(second) })
			f, _ := supervisedWith(t, []provisioner.ProvisionConfig{cfg}, Options{Launch: []provisioner.Option{moves}})
			if err := f.WaitReady(bounded(t)); err != nil {
				t.Fatal(err)
			}
			for _, next := range []struct{ contextSize, model string }{{"777", rehearsed}, {"888", moved}} {
				if err := change(f, cfg, next.contextSize); err != nil {
					t.Fatal(err)
				}
				if h, ready := f.all()[0].launch.Handoff(); !ready || h.Model.Path != next.model {
					t.Errorf("it runs %q, want %q", h.Model.Path, next.model)
				}
			}
		})
	}
}
