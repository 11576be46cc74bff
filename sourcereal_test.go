//go:build source

package provisioner

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

// TestRealSource builds the real llama.cpp, starts it, asks it and stops it; "make test-source" runs it. With ccache it is
// built twice.
func TestRealSource(t *testing.T) {
	repo := os.Getenv("ENGINE_PROVISIONER_LLAMA_SOURCE")
	if repo == "" {
		t.Fatal("needs the source of llama.cpp: run make test-source")
	}
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Model.ID = filepath.Join(cfg.Dir, "tiny.gguf")
	if err := ggufgen.WriteFile(cfg.Model.ID, tiny); err != nil {
		t.Fatal(err)
	}
	cfg.Flags = []string{"--ctx-size", "256", "--threads", "1"}
	cfg.Provisioning = Provisioning{Mode: "source", Source: &SourceConfig{
		Repo: repo, Ref: "b11434", CMakeFlags: []string{"-DGGML_NATIVE=OFF"},
	}}
	builds := 1
	if _, err := exec.LookPath("ccache"); err == nil {
		builds = 2
	}
	for i := range builds {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Hour)
		defer cancel()
		began, last := time.Now(), ""
		p, err := New(cfg, WithCacheDir(filepath.Join(t.TempDir(), "cache")), WithEventFunc(func(e Event) {
			if e.Progress != nil && e.Progress.String() != last {
				last = e.Progress.String()
				t.Logf("%s  %s", time.Since(began).Round(time.Second), last)
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(ctx); err != nil {
			t.Fatal(err)
		}
		t.Logf("build %d: started after %s", i+1, time.Since(began).Round(time.Second))
		handoff, err := p.WaitReady(ctx)
		if err != nil || handoff.ProvisioningMode != "source" || !strings.HasPrefix(handoff.EngineVersion, "b11434-") || handoff.Answer != answerOK {
			t.Errorf("%+v, %v", handoff, err)
		}
		t.Logf("%s at %s answers: %s", handoff.EngineVersion, handoff.URL, handoff.Answer)
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
		nothingLeft(t, p)
	}
}
