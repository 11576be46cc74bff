//go:build linux && (amd64 || arm64)

package gpu

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gpu/drm"
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
	d := node{nvidia.NewWith(lib), drm.Tree{Sys: t.TempDir()}, func() uint64 { return 0 }}

	all, err := Select(Required, nil, Take(d), Build{})
	if err != nil || len(all.GPUs) != 8 {
		t.Fatalf("got %d GPUs, %v", len(all.GPUs), err)
	}
	for _, name := range []string{"5", uuid, uuid[:24]} {
		choice, err := Select(Required, []string{name}, Take(d), Build{})
		gpus := choice.GPUs
		if err != nil || len(gpus) != 1 || gpus[0].UUID != uuid || gpus[0].Index != 5 {
			t.Errorf("device %q: got %+v, %v", name, gpus, err)
		}
	}

	lib.InitFunc = func() nvml.Return { return nvml.LibraryNotFound }
	if _, err := Select(Required, nil, Take(d), Build{}); !errors.Is(err, ErrNoDriver) {
		t.Errorf("got %v, want ErrNoDriver", err)
	}
	if got, err := Select(Optional, nil, Take(d), Build{}); got.GPUs != nil || err != nil {
		t.Errorf("optional: got %v, %v", got, err)
	}
}

// Machines as the node sees them, with a library of NVIDIA's and a tree of the kernel's.
func TestNode(t *testing.T) {
	t.Parallel()
	gb10 := func() *nvmltest.Library {
		lib := nvmltest.New(1, "NVIDIA GB10", 0)
		lib.Devices[0].Bus = "0000000F:01:00.0"
		return lib
	}
	wsl := func() *nvmltest.Library { return nvmltest.New(1, "NVIDIA GeForce RTX 4090", 24<<30) }
	fails := func(ret nvml.Return) func() *nvmltest.Library {
		return func() *nvmltest.Library { return &nvmltest.Library{InitFunc: func() nvml.Return { return ret }} }
	}
	none, broken := fails(nvml.LibraryNotFound), fails(nvml.LibVersionMismatch)
	unknown := engine.UnknownBytes
	nvidiaCard := Device{
		Vendor: engine.VendorNVIDIA, UUID: "GPU-0", Name: "NVIDIA GeForce RTX 4090", PCIBusID: "0000:00:00.0", MemoryTotal: 24 << 30, MemoryFree: 24 << 30,
	}
	integrated := Device{
		Vendor: engine.VendorIntel, Name: "Intel GPU [8086:a780]", PCIBusID: "0000:00:02.0", MemoryTotal: unknown, MemoryFree: 20 << 30,
		Unified: true, Render: "/dev/dri/renderD128",
	}
	for name, tt := range map[string]struct {
		lib   func() *nvmltest.Library
		intel bool // one is integrated in the processor
		deaf  bool // processes cannot be asked for
		want  []Device
		err   error
	}{
		"GB10": {lib: gb10, want: []Device{{
			Vendor: engine.VendorNVIDIA, UUID: "GPU-0", Name: "NVIDIA GB10", PCIBusID: "000f:01:00.0", MemoryTotal: unknown, MemoryFree: 20 << 30, Unified: true,
		}}},
		"WSL2":        {lib: wsl, want: []Device{nvidiaCard}},
		"a Jetson":    {lib: none, err: ErrNoDriver, deaf: true},
		"mixed":       {lib: wsl, intel: true, want: []Device{nvidiaCard, integrated}},
		"without any": {lib: none, intel: true, want: []Device{integrated}},
		"a driver that does not work": {lib: broken, intel: true, deaf: true, want: []Device{{
			Vendor: engine.VendorNVIDIA, Name: "NVIDIA", MemoryTotal: unknown, MemoryFree: unknown,
			Problem: "cannot use the GPU: the NVIDIA driver's library and kernel module differ in version; reboot the node after the driver's update",
		}, integrated}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := node{nvidia.NewWith(tt.lib()), drm.Tree{Sys: t.TempDir(), Open: func(string) error { return nil }}, func() uint64 { return 20 << 30 }}
			if tt.intel {
				dir := filepath.Join(n.tree.Sys, "devices/0000:00:02.0")
				err := errors.Join(
					os.MkdirAll(filepath.Join(n.tree.Sys, "class/drm/renderD128"), 0o755), os.MkdirAll(dir, 0o755),
					os.WriteFile(filepath.Join(dir, "vendor"), []byte("0x8086\n"), 0o600), os.WriteFile(filepath.Join(dir, "device"), []byte("0xa780\n"), 0o600),
					os.Symlink("../../../devices/0000:00:02.0", filepath.Join(n.tree.Sys, "class/drm/renderD128/device")),
				)
				if err != nil {
					t.Fatal(err)
				}
			}
			got, err := n.GPUs()
			if !errors.Is(err, tt.err) || !same(got, tt.want) {
				t.Errorf("got  %+v, %v\nwant %+v, %v", got, err, tt.want, tt.err)
			}
			if _, err := n.Processes([]int{os.Getpid()}); (err != nil) != tt.deaf {
				t.Errorf("processes: %v", err)
			}
		})
	}
}

// What NVIDIA's driver tells of a process is of a device by its UUID.
func TestNodeProcesses(t *testing.T) {
	t.Parallel()
	lib := nvmltest.DGX()
	lib.Devices[1].Computing = []nvml.Process{{PID: 10, Memory: 100}}
	got, err := node{nvidia.NewWith(lib), drm.Tree{Sys: t.TempDir()}, nil}.Processes(nil)
	if err != nil || !slices.Equal(got, []Holding{{10, "GPU-1", 100}}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestPCIAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"00000000:3B:00.0": "0000:3b:00.0", "0000:3b:00.0": "0000:3b:00.0", "3B:00.0": "0000:3b:00.0", "00010000:E1:00.0": "10000:e1:00.0",
		"unknown id": "", "": "", "0": "", "GPU-12": "",
	} {
		if got := PCIAddress(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
