//go:build linux && (amd64 || arm64)

package gpu

import (
	"errors"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/nvidia"
	"github.com/llama-orch/engine-provisioner/internal/nvml"
	"github.com/llama-orch/engine-provisioner/internal/nvml/nvmltest"
)

// TestSelectOnDGX goes the whole way through NVML, on a stand-in for a DGX A100.
func TestSelectOnDGX(t *testing.T) {
	t.Parallel()
	lib := nvmltest.DGX()
	const uuid = "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c"
	lib.Devices[5].ID = uuid
	d := nvidiaDriver{nvidia.NewWith(lib)}

	gpus, err := Select(Required, nil, d)
	if err != nil || len(gpus) != 8 {
		t.Fatalf("got %d GPUs, %v", len(gpus), err)
	}
	for _, name := range []string{"5", uuid, uuid[:24]} {
		gpus, err := Select(Required, []string{name}, d)
		if err != nil || len(gpus) != 1 || gpus[0].UUID != uuid || gpus[0].Index != 5 {
			t.Errorf("device %q: got %+v, %v", name, gpus, err)
		}
	}

	lib.InitFunc = func() nvml.Return { return nvml.LibraryNotFound }
	if _, err := Select(Required, nil, d); !errors.Is(err, ErrNoDriver) {
		t.Errorf("got %v, want ErrNoDriver", err)
	}
	if gpus, err := Select(Optional, nil, d); gpus != nil || err != nil {
		t.Errorf("optional: got %v, %v", gpus, err)
	}
}
