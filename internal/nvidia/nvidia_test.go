//go:build linux && (amd64 || arm64)

package nvidia

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/nvml"
	"github.com/llama-orch/engine-provisioner/internal/nvml/nvmltest"
)

const gib = 1 << 30

// partition is a MIG partition in the second of three slots of d, so that there are gaps around it.
func partition(d *nvmltest.Device, uuid string) *nvmltest.Device {
	mig := &nvmltest.Device{
		ID: uuid, Model: "NVIDIA A100 MIG 1g.5gb", Mem: nvml.Memory{Total: 5 * gib, Free: 4 * gib},
		Fails: map[string]nvml.Return{"BusID": nvml.NotSupported, "GraphicsProcesses": nvml.NotSupported, "MPSProcesses": nvml.NotSupported},
	}
	d.Split, d.Partitions = true, []*nvmltest.Device{nil, mig, nil}
	return mig
}

func TestDevices(t *testing.T) {
	t.Parallel()
	lib := nvmltest.DGX()
	lib.Devices[3].Mem.Free = 10 * gib
	got, err := NewWith(lib).Devices()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 8 {
		t.Fatalf("got %d devices, want 8: %+v", len(got), got)
	}
	for i, d := range got {
		want := Device{
			Index: i, UUID: fmt.Sprintf("GPU-%d", i), Name: "NVIDIA A100-SXM4-40GB",
			PCIBusID: fmt.Sprintf("00000000:%02X:00.0", i), MemoryTotal: 40 * gib, MemoryFree: 40 * gib,
		}
		if i == 3 {
			want.MemoryFree = 10 * gib
		}
		if d != want {
			t.Errorf("device %d:\n got %+v\nwant %+v", i, d, want)
		}
	}
	if lib.Inits != 1 || lib.Shutdowns != 1 {
		t.Errorf("%d times Init and %d times Shutdown, want one of each", lib.Inits, lib.Shutdowns)
	}
}

func TestDevicesWithMIG(t *testing.T) {
	t.Parallel()
	lib := nvmltest.DGX()
	partition(lib.Devices[0], "MIG-a")
	lib.Devices[1].Split = true

	got, err := NewWith(lib).Devices()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 9 {
		t.Fatalf("got %d devices, want 8 GPUs and a partition", len(got))
	}
	if !strings.Contains(got[0].Problem, "name one of them: MIG-a") {
		t.Errorf("the split GPU's problem is %q", got[0].Problem)
	}
	want := Device{
		Index: 0, UUID: "MIG-a", Name: "NVIDIA A100 MIG 1g.5gb", PCIBusID: "00000000:00:00.0",
		MemoryTotal: 5 * gib, MemoryFree: 4 * gib,
	}
	if got[1] != want {
		t.Errorf("partition:\n got %+v\nwant %+v", got[1], want)
	}
	if got[2].Index != 1 || !strings.Contains(got[2].Problem, "it has no partition") {
		t.Errorf("the GPU without a partition: %+v", got[2])
	}
	if got[3].Problem != "" {
		t.Errorf("the whole GPU beside them has the problem %q", got[3].Problem)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	fails := func(method string, ret nvml.Return) func(d *nvmltest.Device) {
		return func(d *nvmltest.Device) { d.Fails = map[string]nvml.Return{method: ret} }
	}
	tests := map[string]struct {
		spoil func(d *nvmltest.Device)
		want  string
	}{
		"lost":                      {fails("UUID", nvml.GPUIsLost), "lost"},
		"lost between two queries":  {fails("ComputeMode", nvml.GPUIsLost), "lost"},
		"lost a little later":       {fails("RemappedRows", nvml.GPUIsLost), "lost"},
		"lost at the end":           {fails("RetiredPagesPending", nvml.GPUIsLost), "lost"},
		"reset required":            {fails("Memory", nvml.ResetRequired), "nvidia-smi --gpu-reset"},
		"other failure":             {fails("Name", nvml.Unknown), "ERROR_UNKNOWN"},
		"no permission":             {fails("Memory", nvml.NoPermission), "/dev/nvidia*"},
		"prohibited":                {func(d *nvmltest.Device) { d.Mode = nvml.ComputeModeProhibited }, "nvidia-smi -c DEFAULT"},
		"exclusive process is fine": {func(d *nvmltest.Device) { d.Mode = 3 }, ""},
		"remapping failed": {func(d *nvmltest.Device) {
			d.Rows = nvml.RemappedRows{Uncorrectable: 1, Failed: true}
		}, "replace it"},
		"remapping pending": {func(d *nvmltest.Device) {
			d.Rows = nvml.RemappedRows{Uncorrectable: 1, Pending: true}
		}, "waits for remapping"},
		"rows remapped long ago are fine": {func(d *nvmltest.Device) { d.Rows = nvml.RemappedRows{Uncorrectable: 1} }, ""},
		"pages to retire": {func(d *nvmltest.Device) {
			d.Retiring, d.Fails = true, map[string]nvml.Return{"RemappedRows": nvml.NotSupported}
		}, "wait for retirement"},
		"an old consumer card": {func(d *nvmltest.Device) {
			d.Fails = map[string]nvml.Return{
				"ComputeMode": nvml.NotSupported, "RemappedRows": nvml.NotSupported,
				"RetiredPagesPending": nvml.NotSupported, "MIG": nvml.NotSupported,
			}
		}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lib := nvmltest.DGX()
			tt.spoil(lib.Devices[2])
			got, err := NewWith(lib).Devices()
			if err != nil {
				t.Fatal(err)
			}
			for i, d := range got {
				switch {
				case i != 2 && d.Problem != "":
					t.Errorf("device %d has the problem %q of another", i, d.Problem)
				case i == 2 && (d.Problem == "") != (tt.want == ""), i == 2 && !strings.Contains(d.Problem, tt.want):
					t.Errorf("problem is %q, want %q in it", d.Problem, tt.want)
				}
			}
		})
	}
}

func TestHandleLost(t *testing.T) {
	t.Parallel()
	lib := nvmltest.DGX()
	lib.DeviceFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 0 {
			return nil, nvml.GPUIsLost
		}
		return lib.Devices[i], nvml.Success
	}
	got, err := NewWith(lib).Devices()
	if err != nil {
		t.Fatal(err)
	}
	if got[0].UUID != "" || !strings.Contains(got[0].Problem, "lost") || got[1].Problem != "" || got[1].Index != 1 {
		t.Errorf("got %+v", got[:2])
	}
	if _, err := sums(NewWith(lib)); err == nil || !strings.Contains(err.Error(), "GPU 0") {
		t.Errorf("ProcessMemory: got %v, want an error that names GPU 0", err)
	}
}

// TestOldLibrary has a library that lacks what came later.
func TestOldLibrary(t *testing.T) {
	t.Parallel()
	lib := nvmltest.DGX()
	for _, d := range lib.Devices {
		d.Rows, d.Split = nvml.RemappedRows{Failed: true}, true // what nobody has answered is not believed
		d.Fails = map[string]nvml.Return{
			"RemappedRows": nvml.FunctionNotFound, "MIG": nvml.FunctionNotFound, "MPSProcesses": nvml.FunctionNotFound,
		}
	}
	if got, err := NewWith(lib).Devices(); err != nil || len(got) != 8 || got[0].Problem != "" {
		t.Errorf("Devices: %+v, %v", got, err)
	}
	if _, err := sums(NewWith(lib)); err != nil {
		t.Error(err)
	}
}

// sums is what each process holds over all devices.
func sums(d *Driver) (map[int]uint64, error) {
	all, err := d.Processes()
	memory := map[int]uint64{}
	for _, p := range all {
		memory[p.PID] += p.Bytes
	}
	return memory, err
}

// Unified memory has no numbers of NVML's: GB10 says that they are not supported, and Thor says 0.
func TestUnifiedMemory(t *testing.T) {
	t.Parallel()
	lib := nvmltest.DGX()
	lib.Devices[0].Fails = map[string]nvml.Return{"Memory": nvml.NotSupported}
	lib.Devices[1].Mem = nvml.Memory{}
	lib.Devices[2].Fails = map[string]nvml.Return{"Memory": nvml.Unknown}
	got, err := NewWith(lib).Devices()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, false, false} {
		if got[i].Unified != want || (got[i].Problem != "") != (i == 2) {
			t.Errorf("GPU %d: %+v", i, got[i])
		}
	}
}

// What a process holds is told by device.
func TestProcessesByDevice(t *testing.T) {
	t.Parallel()
	lib := nvmltest.DGX()
	lib.Devices[0].Computing = []nvml.Process{{PID: 10, Memory: 100}}
	partition(lib.Devices[1], "MIG-a").Computing = []nvml.Process{{PID: 10, Memory: 9}}
	got, err := NewWith(lib).Processes()
	want := []Process{{10, "GPU-0", 100}, {10, "MIG-a", 9}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestProcessMemory(t *testing.T) {
	t.Parallel()
	lib := nvmltest.DGX()
	first, second, split := lib.Devices[0], lib.Devices[1], lib.Devices[2]
	first.Computing = []nvml.Process{{PID: 10, Memory: 100}, {PID: 11, Memory: 1}}
	first.Drawing = []nvml.Process{{PID: 10, Memory: 100}, {PID: 12, Memory: 5}}
	first.Shared = []nvml.Process{{PID: 13, Memory: 7}}
	second.Computing = []nvml.Process{{PID: 10, Memory: 50}, {PID: 14, Memory: ^uint64(0)}}
	partition(split, "MIG-a").Computing = []nvml.Process{{PID: 15, Memory: 9}}

	got, err := sums(NewWith(lib))
	if err != nil {
		t.Fatal(err)
	}
	if split.Asked["ComputeProcesses"] != 0 {
		t.Error("a GPU in MIG mode is asked by partition only")
	}
	want := map[int]uint64{10: 150, 11: 1, 12: 5, 13: 7, 14: 0, 15: 9}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestProcessMemoryOfSome(t *testing.T) {
	t.Parallel()
	lib := nvmltest.DGX()
	lib.Devices[0].Fails = map[string]nvml.Return{"ComputeProcesses": nvml.NoPermission}
	lib.Devices[1].Computing = []nvml.Process{{PID: 10, Memory: 50}}
	got, err := sums(NewWith(lib))
	if err == nil || !strings.Contains(err.Error(), "cannot list the processes on GPU 0: ERROR_NO_PERMISSION") {
		t.Errorf("got the error %v", err)
	}
	if !maps.Equal(got, map[int]uint64{10: 50}) {
		t.Errorf("got %v", got)
	}
}

func TestNoDriver(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ret      nvml.Return
		text     string
		noDriver bool
	}{
		"no library":       {nvml.LibraryNotFound, "no NVIDIA driver (libnvidia-ml.so.1 not found)", true},
		"no kernel module": {nvml.DriverNotLoaded, "no NVIDIA driver (its kernel module is not loaded)", true},
		"half an update":   {nvml.LibVersionMismatch, "the NVIDIA driver's library and kernel module differ in version", false},
		"no rights":        {nvml.NoPermission, "this user may not use the NVIDIA driver", false},
		"unknown":          {nvml.Unknown, "cannot open the NVIDIA driver: ERROR_UNKNOWN", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lib := nvmltest.DGX()
			lib.InitFunc = func() nvml.Return { return tt.ret }
			_, err := NewWith(lib).Devices()
			if err == nil || err.Error() != tt.text || errors.Is(err, ErrNoDriver) != tt.noDriver {
				t.Errorf("got %v, want %q (no driver: %v)", err, tt.text, tt.noDriver)
			}
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%T is no *Error", err)
			}
			if n := lib.Shutdowns; n != 0 {
				t.Errorf("%d times Shutdown after a failed Init", n)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if v, err := NewWith(nvmltest.DGX()).Version(); err != nil || v != "550.54.15" {
		t.Errorf("got %q, %v", v, err)
	}
	lib := nvmltest.DGX()
	lib.DriverVersionFunc = func() (string, nvml.Return) { return "", nvml.Unknown }
	if _, err := NewWith(lib).Version(); err == nil {
		t.Error("want an error")
	}
	lib.DeviceCountFunc = func() (int, nvml.Return) { return 0, nvml.Unknown }
	if _, err := NewWith(lib).Devices(); err == nil {
		t.Error("want an error")
	}
}

// TestRealLibrary asks the node's own driver, whatever it is, from many sides at once.
func TestRealLibrary(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			d := New()
			version, err := d.Version()
			if err != nil {
				if _, ok := errors.AsType[*Error](err); !ok {
					t.Errorf("%T is no *Error: %v", err, err)
				}
				return
			}
			if _, err := d.Devices(); err != nil {
				t.Errorf("driver %s: %v", version, err)
			}
			if _, err := d.Processes(); err != nil {
				t.Logf("driver %s: %v", version, err)
			}
		})
	}
	wg.Wait()
}
