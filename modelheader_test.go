package provisioner

import (
	"os"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

// A model that writes a list where others write a number is run, without an estimate.
func TestAModelOfAnUnknownShapeRuns(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Fit = "require"
	list := append([]byte{9, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}, 64, 0, 0, 0, 128, 0, 0, 0)
	if err := os.WriteFile(cfg.Model.ID, ggufgen.With("llama.embedding_length", list), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _ := ready(t, cfg)
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
}
