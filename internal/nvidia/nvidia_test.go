//go:build cgo && linux

package nvidia

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
)

const gib = 1 << 30

// board adds to the mock's devices what go-nvml's mocks leave out, in good health, with UUIDs GPU-0…, GPU-1….
func board(s *server.Server) []*server.Device {
	devices := make([]*server.Device, len(s.Devices))
	for i := range s.Devices {
		d := s.Devices[i].(*server.Device)
		d.UUID = fmt.Sprintf("GPU-%d", i)
		d.MemoryInfo.Free = 10 * gib
		d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) { return pci(fmt.Sprintf("00000000:%02X:00.0", i)), nvml.SUCCESS }
		d.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) { return nvml.COMPUTEMODE_DEFAULT, nvml.SUCCESS }
		d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, nvml.SUCCESS }
		d.GetRetiredPagesPendingStatusFunc = func() (nvml.EnableState, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
		none := func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.SUCCESS }
		d.GetComputeRunningProcessesFunc = none
		d.GetGraphicsRunningProcessesFunc = none
		d.GetMPSComputeRunningProcessesFunc = none
		devices[i] = d
	}
	return devices
}

func pci(id string) (info nvml.PciInfo) {
	for i, c := range []byte(id) {
		info.BusId[i] = int8(c)
	}
	return info
}

func holds(infos ...nvml.ProcessInfo) func() ([]nvml.ProcessInfo, nvml.Return) {
	return func() ([]nvml.ProcessInfo, nvml.Return) { return infos, nvml.SUCCESS }
}

// partition is a MIG device in the second of three slots, so that there are gaps around it.
func partition(d *server.Device, uuid string) *mock.Device {
	mig := &mock.Device{
		GetUUIDFunc: func() (string, nvml.Return) { return uuid, nvml.SUCCESS },
		GetNameFunc: func() (string, nvml.Return) { return "NVIDIA A100 MIG 1g.5gb", nvml.SUCCESS },
		GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) {
			return nvml.Memory{Total: 5 * gib, Free: 4 * gib}, nvml.SUCCESS
		},
		GetPciInfoFunc: func() (nvml.PciInfo, nvml.Return) { return nvml.PciInfo{}, nvml.ERROR_NOT_SUPPORTED },
	}
	d.MigMode = nvml.DEVICE_MIG_ENABLE
	d.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 3, nvml.SUCCESS }
	d.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i != 1 {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return mig, nvml.SUCCESS
	}
	return mig
}

func TestDevices(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*server.Server{"a100": dgxa100.New(), "h100": dgxh100.New()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mocks := board(s)
			got, err := NewWith(s).Devices()
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 8 {
				t.Fatalf("got %d devices, want 8: %+v", len(got), got)
			}
			for i, d := range got {
				want := Device{
					Index: i, UUID: fmt.Sprintf("GPU-%d", i), Name: mocks[i].Config.Name,
					PCIBusID:    fmt.Sprintf("00000000:%02X:00.0", i),
					MemoryTotal: mocks[i].Config.MemoryMB << 20, MemoryFree: 10 * gib,
				}
				if d != want {
					t.Errorf("device %d:\n got %+v\nwant %+v", i, d, want)
				}
			}
			if len(s.InitCalls()) != 1 || len(s.ShutdownCalls()) != 1 {
				t.Errorf("%d times Init and %d times Shutdown, want one of each", len(s.InitCalls()), len(s.ShutdownCalls()))
			}
		})
	}
}

func TestDevicesWithMIG(t *testing.T) {
	t.Parallel()
	s := dgxa100.New()
	mocks := board(s)
	partition(mocks[0], "MIG-a")
	mocks[1].MigMode = nvml.DEVICE_MIG_ENABLE
	mocks[1].GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 0, nvml.SUCCESS }

	got, err := NewWith(s).Devices()
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
	tests := map[string]struct {
		spoil func(d *server.Device)
		want  string
	}{
		"lost": {func(d *server.Device) {
			d.GetUUIDFunc = func() (string, nvml.Return) { return "", nvml.ERROR_GPU_IS_LOST }
			d.GetComputeModeFunc = nil // not asked any more
		}, "lost"},
		"lost between two queries": {func(d *server.Device) {
			d.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) { return 0, nvml.ERROR_GPU_IS_LOST }
		}, "lost"},
		"reset required": {func(d *server.Device) {
			d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_RESET_REQUIRED }
		}, "nvidia-smi --gpu-reset"},
		"other failure": {func(d *server.Device) {
			d.GetNameFunc = func() (string, nvml.Return) { return "", nvml.ERROR_UNKNOWN }
		}, "ERROR_UNKNOWN"},
		"no permission": {func(d *server.Device) {
			d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_NO_PERMISSION }
		}, "/dev/nvidia*"},
		"prohibited": {func(d *server.Device) {
			d.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) { return nvml.COMPUTEMODE_PROHIBITED, nvml.SUCCESS }
		}, "nvidia-smi -c DEFAULT"},
		"exclusive process is fine": {func(d *server.Device) {
			d.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) {
				return nvml.COMPUTEMODE_EXCLUSIVE_PROCESS, nvml.SUCCESS
			}
		}, ""},
		"remapping failed": {func(d *server.Device) {
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 1, false, true, nvml.SUCCESS }
		}, "replace it"},
		"remapping pending": {func(d *server.Device) {
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 1, true, false, nvml.SUCCESS }
		}, "waits for remapping"},
		"rows remapped long ago are fine": {func(d *server.Device) {
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 2, 1, false, false, nvml.SUCCESS }
		}, ""},
		"pages to retire": {func(d *server.Device) {
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) {
				return 0, 0, false, false, nvml.ERROR_NOT_SUPPORTED
			}
			d.GetRetiredPagesPendingStatusFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_ENABLED, nvml.SUCCESS }
		}, "wait for retirement"},
		"an old consumer card": {func(d *server.Device) {
			d.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) {
				return 0, 0, false, false, nvml.ERROR_NOT_SUPPORTED
			}
			d.GetMigModeFunc = func() (int, int, nvml.Return) { return 0, 0, nvml.ERROR_NOT_SUPPORTED }
		}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := dgxa100.New()
			tt.spoil(board(s)[2])
			got, err := NewWith(s).Devices()
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
	s := dgxa100.New()
	mocks := board(s)
	s.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 0 {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return mocks[i], nvml.SUCCESS
	}
	got, err := NewWith(s).Devices()
	if err != nil {
		t.Fatal(err)
	}
	if got[0].UUID != "" || !strings.Contains(got[0].Problem, "lost") || got[1].Problem != "" || got[1].Index != 1 {
		t.Errorf("got %+v", got[:2])
	}
	if _, err := NewWith(s).ProcessMemory(); err == nil || !strings.Contains(err.Error(), "GPU 0") {
		t.Errorf("ProcessMemory: got %v, want an error that names GPU 0", err)
	}
}

// TestOldLibrary has a library that lacks what came later: calling it would end the process.
func TestOldLibrary(t *testing.T) {
	t.Parallel()
	s := dgxa100.New()
	for _, d := range board(s) {
		d.GetRemappedRowsFunc, d.GetMigModeFunc, d.GetMPSComputeRunningProcessesFunc = nil, nil, nil // panics when called
	}
	s.LookupSymbolFunc = func(symbol string) error { return errors.New("no " + symbol) }
	if got, err := NewWith(s).Devices(); err != nil || len(got) != 8 || got[0].Problem != "" {
		t.Errorf("Devices: %+v, %v", got, err)
	}
	if _, err := NewWith(s).ProcessMemory(); err != nil {
		t.Error(err)
	}
}

func TestProcessMemory(t *testing.T) {
	t.Parallel()
	s := dgxa100.New()
	mocks := board(s)
	mocks[0].GetComputeRunningProcessesFunc = holds(nvml.ProcessInfo{Pid: 10, UsedGpuMemory: 100}, nvml.ProcessInfo{Pid: 11, UsedGpuMemory: 1})
	mocks[0].GetGraphicsRunningProcessesFunc = holds(nvml.ProcessInfo{Pid: 10, UsedGpuMemory: 100}, nvml.ProcessInfo{Pid: 12, UsedGpuMemory: 5})
	mocks[0].GetMPSComputeRunningProcessesFunc = holds(nvml.ProcessInfo{Pid: 13, UsedGpuMemory: 7})
	mocks[1].GetComputeRunningProcessesFunc = holds(nvml.ProcessInfo{Pid: 10, UsedGpuMemory: 50}, nvml.ProcessInfo{Pid: 14, UsedGpuMemory: ^uint64(0)})
	// A GPU in MIG mode is asked by partition only.
	mig := partition(mocks[2], "MIG-a")
	mocks[2].GetComputeRunningProcessesFunc = nil
	mig.GetComputeRunningProcessesFunc = holds(nvml.ProcessInfo{Pid: 15, UsedGpuMemory: 9})
	unsupported := func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.ERROR_NOT_SUPPORTED }
	mig.GetGraphicsRunningProcessesFunc, mig.GetMPSComputeRunningProcessesFunc = unsupported, unsupported

	got, err := NewWith(s).ProcessMemory()
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]uint64{10: 150, 11: 1, 12: 5, 13: 7, 14: 0, 15: 9}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestProcessMemoryOfSome(t *testing.T) {
	t.Parallel()
	s := dgxa100.New()
	mocks := board(s)
	mocks[0].GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.ERROR_NO_PERMISSION }
	mocks[1].GetComputeRunningProcessesFunc = holds(nvml.ProcessInfo{Pid: 10, UsedGpuMemory: 50})
	got, err := NewWith(s).ProcessMemory()
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
		"no library":       {nvml.ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver (libnvidia-ml.so.1 not found)", true},
		"no kernel module": {nvml.ERROR_DRIVER_NOT_LOADED, "no NVIDIA driver (its kernel module is not loaded)", true},
		"half an update":   {nvml.ERROR_LIB_RM_VERSION_MISMATCH, "the NVIDIA driver's library and kernel module differ in version", false},
		"no rights":        {nvml.ERROR_NO_PERMISSION, "this user may not use the NVIDIA driver", false},
		"unknown":          {nvml.ERROR_UNKNOWN, "cannot open the NVIDIA driver: ERROR_UNKNOWN", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := dgxa100.New()
			s.InitFunc = func() nvml.Return { return tt.ret }
			_, err := NewWith(s).Devices()
			if err == nil || err.Error() != tt.text || errors.Is(err, ErrNoDriver) != tt.noDriver {
				t.Errorf("got %v, want %q (no driver: %v)", err, tt.text, tt.noDriver)
			}
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%T is no *Error", err)
			}
			if n := len(s.ShutdownCalls()); n != 0 {
				t.Errorf("%d times Shutdown after a failed Init", n)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if v, err := NewWith(dgxa100.New()).Version(); err != nil || v != "550.54.15" {
		t.Errorf("got %q, %v", v, err)
	}
	s := dgxa100.New()
	s.SystemGetDriverVersionFunc = func() (string, nvml.Return) { return "", nvml.ERROR_UNKNOWN }
	if _, err := NewWith(s).Version(); err == nil {
		t.Error("want an error")
	}
	s.DeviceGetCountFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
	if _, err := NewWith(s).Devices(); err == nil {
		t.Error("want an error")
	}
}

// TestRealLibrary asks the node's own driver, whatever it is, from many sides at once: under -race this is what the
// session lock is for.
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
			if _, err := d.ProcessMemory(); err != nil {
				t.Logf("driver %s: %v", version, err)
			}
		})
	}
	wg.Wait()
}
