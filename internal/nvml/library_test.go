//go:build linux && (amd64 || arm64)

package nvml

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// compiled is the stand-in for the driver's library, opened.
func compiled(t *testing.T, flags ...string) Library {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	args := append([]string{"-shared", "-fPIC", "-o", path, "testdata/libnvidia-ml.c"}, flags...)
	if out, err := exec.CommandContext(t.Context(), cc, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lib := Open(path)
	if ret := lib.Init(); ret != Success {
		t.Fatal(ret)
	}
	t.Cleanup(func() {
		if ret := lib.Shutdown(); ret != Success {
			t.Error(ret)
		}
	})
	return lib
}

// got turns what a call returns into one value to compare.
func got[T any](value T, ret Return) struct {
	Value T
	Ret   Return
} {
	return struct {
		Value T
		Ret   Return
	}{value, ret}
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

// TestLibrary calls a compiled library, whose structures are those of nvml.h.
func TestLibrary(t *testing.T) {
	t.Parallel()
	lib := compiled(t)
	same(t, "version", got(lib.DriverVersion()), got("580.95.05", Success))
	same(t, "count", got(lib.DeviceCount()), got(2, Success))
	_, ret := lib.Device(2)
	same(t, "a device that is not there", ret, Return(2))

	d, ret := lib.Device(0)
	same(t, "device", ret, Success)
	same(t, "UUID", got(d.UUID()), got("GPU-a", Success))
	same(t, "name", got(d.Name()), got("NVIDIA H200", Success))
	same(t, "bus id", got(d.BusID()), got("00000000:3B:00.0", Success))
	same(t, "memory", got(d.Memory()), got(Memory{Total: 151 << 30, Free: 150 << 30, Used: 1 << 30}, Success))
	same(t, "mode", got(d.ComputeMode()), got(ComputeMode(0), Success))
	same(t, "rows", got(d.RemappedRows()), got(RemappedRows{Uncorrectable: 2, Pending: true}, Success))
	same(t, "pages", got(d.RetiredPagesPending()), got(false, Success))
	same(t, "MIG", got(d.MIG()), got(false, Success))
	list, ret := d.ComputeProcesses()
	same(t, "processes", ret, Success)
	if len(list) != 100 || list[0] != (Process{1000, 0}) || list[99] != (Process{1099, 99 << 32}) {
		t.Errorf("%d processes: %v", len(list), list)
	}
	list, ret = d.MPSProcesses() // of the second version
	same(t, "MPS", got(len(list), ret), got(0, Success))
	_, ret = d.GraphicsProcesses()
	same(t, "graphics", ret, GPUIsLost)

	split, _ := lib.Device(1)
	same(t, "MIG", got(split.MIG()), got(true, Success))
	same(t, "mode", got(split.ComputeMode()), got(ComputeModeProhibited, Success))
	same(t, "pages", got(split.RetiredPagesPending()), got(true, Success))
	same(t, "slots", got(split.PartitionSlots()), got(2, Success))
	_, ret = split.Partition(0)
	same(t, "an empty slot", ret, NotFound)
	mig, ret := split.Partition(1)
	same(t, "partition", ret, Success)
	same(t, "UUID", got(mig.UUID()), got("MIG-c", Success))
	same(t, "bus id", got(mig.BusID()), got("", NotSupported))
}

// TestOldLibrary calls one that lacks functions, which is told and ends nothing.
func TestOldLibrary(t *testing.T) {
	t.Parallel()
	lib := compiled(t, "-DOLD")
	d, _ := lib.Device(0)
	_, rows := d.RemappedRows()
	_, mig := d.MIG()
	_, mps := d.MPSProcesses()
	for what, ret := range map[string]Return{"rows": rows, "MIG": mig, "MPS": mps} {
		same(t, what, ret, FunctionNotFound)
	}
	list, ret := d.ComputeProcesses()
	if ret != Success || len(list) != 2 || list[0] != (Process{10, 5 << 30}) || list[1] != (Process{11, ^uint64(0)}) {
		t.Errorf("%v, %v", list, ret)
	}
}

func TestNoLibrary(t *testing.T) {
	t.Parallel()
	same(t, "no file", Open(filepath.Join(t.TempDir(), "libnvidia-ml.so.1")).Init(), LibraryNotFound)
	path := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	if err := os.WriteFile(path, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	same(t, "no library", Open(path).Init(), LibraryNotFound)
}

func TestReturn(t *testing.T) {
	t.Parallel()
	same(t, "name", GPUIsLost.Error(), "ERROR_GPU_IS_LOST")
	same(t, "without a name", Return(77).Error(), "NVML error 77")
}
