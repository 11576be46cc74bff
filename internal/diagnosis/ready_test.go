package diagnosis_test

import (
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
)

// A client of a ready engine names an image that cannot be downloaded; later the engine dies of something else.
func TestReadyEngineDiesOfNoDownload(t *testing.T) {
	t.Parallel()
	lines := []string{"requests.exceptions.ConnectTimeout: Max retries exceeded with url: /cat.png", "torch.AcceleratorError: CUDA error: unspecified launch failure"}
	for _, patterns := range [][]engine.CausePattern{enginetable.Spec(t, vllm.Engine{}).Causes, enginetable.Spec(t, sglang.Engine{}).Causes, enginetable.Spec(t, tgi.Engine{}).Causes} {
		if cause, _ := enginetable.CauseIn(lines, patterns); cause != engine.CauseDownload {
			t.Errorf("while loading: %q", cause)
		}
		if cause, _ := enginetable.CauseIn(lines, diagnosis.OfReady(patterns)); cause != engine.CauseDriver {
			t.Errorf("once ready: %q", cause)
		}
	}
}
