package fit

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gguf"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
)

// gpuWith is a GPU with so much free memory.
func gpuWith(index int, free engine.Bytes) gpu.Device {
	return gpu.Device{Index: index, UUID: fmt.Sprintf("GPU-%04d", index), MemoryTotal: 80 << 30, MemoryFree: free}
}

// Where the engine shrinks the context or leaves layers on the host by itself, a lack of memory is no reason to refuse a start.
func TestNeedsLeaveToTheEngineWhatItDoes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := ggufgen.WriteFile(path, ggufgen.Params{Width: 512, Layers: 8, Context: 1 << 17}); err != nil {
		t.Fatal(err)
	}
	model, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	check, gpus := &Check{Model: model}, []gpu.Device{gpuWith(0, 600<<20)}
	if Lacking(check.Needs(&Run{Settings: gguf.Settings{Layers: -1}}, gpus)) == nil {
		t.Fatalf("the model is too small for this test: %v", check.Needs(&Run{Settings: gguf.Settings{Layers: -1}}, gpus))
	}
	if short := Lacking(check.Needs(&Run{Settings: gguf.Settings{Layers: -1}, LeastContext: 4096}, gpus)); len(short) > 0 {
		t.Errorf("%v", short)
	}
	if needs := check.Needs(&Run{Settings: gguf.Settings{Layers: -1}, Fits: true}, gpus); needs != nil {
		t.Errorf("told of an engine that finds room by itself: %v", needs)
	}
	roomy := []gpu.Device{gpuWith(0, 60<<30)}
	if needs := check.Needs(&Run{Settings: gguf.Settings{Layers: -1}, Fits: true}, roomy); len(needs) == 0 {
		t.Error("nothing is told of a model that fits")
	}
}
