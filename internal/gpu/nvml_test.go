//go:build cgo && linux

package gpu

import (
	"errors"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	"github.com/llama-orch/engine-provisioner/internal/nvidia"
)

// TestSelectOnDGX goes the whole way through NVML, on go-nvml's stand-in for a DGX A100.
func TestSelectOnDGX(t *testing.T) {
	t.Parallel()
	s := dgxa100.New()
	for _, dev := range s.Devices {
		d := dev.(*server.Device)
		d.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) { return nvml.COMPUTEMODE_DEFAULT, nvml.SUCCESS }
		d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, nvml.SUCCESS }
		d.GetRetiredPagesPendingStatusFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_DISABLED, nvml.SUCCESS }
	}
	d := nvidiaDriver{nvidia.NewWith(s)}

	gpus, err := Select(Required, nil, d)
	if err != nil || len(gpus) != 8 {
		t.Fatalf("got %d GPUs, %v", len(gpus), err)
	}
	uuid := s.Devices[5].(*server.Device).UUID
	for _, name := range []string{"5", uuid, uuid[:24]} {
		gpus, err := Select(Required, []string{name}, d)
		if err != nil || len(gpus) != 1 || gpus[0].UUID != uuid || gpus[0].Index != 5 {
			t.Errorf("device %q: got %+v, %v", name, gpus, err)
		}
	}

	s.InitFunc = func() nvml.Return { return nvml.ERROR_LIBRARY_NOT_FOUND }
	if _, err := Select(Required, nil, d); !errors.Is(err, ErrNoDriver) {
		t.Errorf("got %v, want ErrNoDriver", err)
	}
	if gpus, err := Select(Optional, nil, d); gpus != nil || err != nil {
		t.Errorf("optional: got %v, %v", gpus, err)
	}
}
