package fleet

import (
	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/hooks"
)

// GPUs as a driver would tell, with the memory of this launch's processes in it.
type stubGPUs struct {
	gpus   []engine.GPU
	err    error
	memory func() map[int]uint64
}

func (f stubGPUs) GPUs() ([]gpu.Device, error) { return f.gpus, f.err }

func (f stubGPUs) Processes([]int) ([]gpu.Holding, error) {
	if f.memory == nil {
		return []gpu.Holding{{PID: 1, Bytes: 1 << 30}}, nil
	}
	return holdings(f.memory()), nil
}

func withGPUs(d gpu.Driver) provisioner.Option { return withHooks(func(h *hooks.Hooks) { h.GPUs = d }) }
