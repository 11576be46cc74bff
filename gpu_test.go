package provisioner

import (
	"errors"
	"maps"
	"sync/atomic"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/nvidia"
	"github.com/llama-orch/engine-provisioner/settings"
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
	gpu1    = engine.GPU{Index: 1, UUID: "GPU-aa11", Name: "NVIDIA A100", MemoryTotal: 40 << 30, MemoryFree: 39 << 30}
	errNone = &nvidia.Error{Text: "no NVIDIA driver (libnvidia-ml.so.1 not found)", Advice: "install the driver", Err: nvidia.ErrNoDriver}
)

// What a program matches is of this package, whoever has found it out.
func TestGPUErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		driver *fakeGPUs
		is     error
		text   string
	}{
		"no driver": {&fakeGPUs{err: errNone}, ErrNoDriver, `cannot use the GPU: no NVIDIA driver (libnvidia-ml.so.1 not found); install the driver, or set "gpu: optional" or "gpu: none"`},
		"no device": {&fakeGPUs{}, ErrNoGPU, "lists no device"},
		"not there": {&fakeGPUs{gpus: []engine.GPU{gpu0}}, nil, `cannot use GPU "9": there is no such GPU; there are: 0 (GPU-aa00)`},
	} {
		var failed *GPUError
		o := newOptions(nil)
		_, err := o.chooseGPUs(t.Context(), ProvisionConfig{Devices: settings.Devices{"9"}}, engine.Program{}, engine.Binary{}, tt.driver)
		if !errors.As(err, &failed) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %T %v", name, err, err)
		}
		wantText(t, err, tt.text)
	}
}

func TestGPUEnv(t *testing.T) {
	t.Parallel()
	cfg := ProvisionConfig{Devices: settings.DevicesAuto()}
	o := newOptions(nil)
	choice, err := o.chooseGPUs(t.Context(), cfg, engine.Program{}, engine.Binary{}, &fakeGPUs{gpus: []engine.GPU{gpu0, gpu1}})
	want := map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-aa00,GPU-aa11", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
	if got := choice.env(cfg, choice.GPUs); err != nil || !maps.Equal(got, want) {
		t.Errorf("%v (%v)", got, err)
	}
	cfg.GPU = engine.GPUNone
	if got := choice.env(cfg, choice.GPUs)["CUDA_VISIBLE_DEVICES"]; got != "" {
		t.Errorf("none: %q", got)
	}
}
