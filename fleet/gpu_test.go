package fleet

import (
	"sync/atomic"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/nvidia"
)

// fakeGPUs is a gpu.Driver that answers what it holds.
type fakeGPUs struct {
	gpus   []engine.GPU
	memory map[int]uint64
	err    error
	asked  atomic.Int32
}

func (f *fakeGPUs) GPUs() ([]gpu.Device, error) {
	f.asked.Add(1)
	return f.gpus, f.err
}

func (f *fakeGPUs) Processes([]int) ([]gpu.Holding, error) { return holdings(f.memory), f.err }

// holdings are those of which it is not known on which device they are.
func holdings(memory map[int]uint64) (all []gpu.Holding) {
	for pid, n := range memory {
		all = append(all, gpu.Holding{PID: pid, Bytes: n})
	}
	return all
}

var (
	gpu0    = engine.GPU{Index: 0, UUID: "GPU-aa00", Name: "NVIDIA A100", MemoryTotal: 40 << 30, MemoryFree: 39 << 30}
	errNone = &nvidia.Error{Text: "no NVIDIA driver (libnvidia-ml.so.1 not found)", Advice: "install the driver", Err: nvidia.ErrNoDriver}
)
