//go:build linux && cgo && (amd64 || arm64)

// Package against holds our calls into NVML against those of NVIDIA's own binding, which is made from nvml.h. It is a module
// of its own, since that binding needs cgo and a C compiler, and prints warnings of its header's: nobody who imports the
// library shall need or see them.
package against

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	theirs "github.com/NVIDIA/go-nvml/pkg/nvml"

	ours "github.com/llama-orch/engine-provisioner/internal/nvml"
)

// answer is what a call has said.
type answer struct {
	value any
	ret   int32
}

func our[T any](value T, ret ours.Return) answer { return answer{value, int32(ret)} }

func their[T any](value T, ret theirs.Return) answer { return answer{value, int32(ret)} }

// Both read the same from one library.
func TestSameAnswers(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	if out, err := exec.CommandContext(t.Context(), cc, "-shared", "-fPIC", "-o", path, "../testdata/libnvidia-ml.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	us, them := ours.Open(path), theirs.New(theirs.WithLibraryPath(path))
	if a, b := us.Init(), them.Init(); a != ours.Success || b != theirs.SUCCESS {
		t.Fatal(a, b)
	}
	t.Cleanup(func() { us.Shutdown(); _ = them.Shutdown() })
	same := func(what string, a, b answer) {
		t.Helper()
		if a != b {
			t.Errorf("%s: ours is %+v, theirs %+v", what, a, b)
		}
	}
	same("version", our(us.DriverVersion()), their(them.SystemGetDriverVersion()))
	same("count", our(us.DeviceCount()), their(them.DeviceGetCount()))
	for i := range 2 {
		a, ret := us.Device(i)
		b, theirRet := them.DeviceGetHandleByIndex(i)
		if ret != ours.Success || theirRet != theirs.SUCCESS {
			t.Fatal(ret, theirRet)
		}
		sameDevice(t, same, a, b)
		same("slots", our(a.PartitionSlots()), their(b.GetMaxMigDeviceCount()))
		mode, _, ret2 := b.GetMigMode()
		same("MIG", our(a.MIG()), their(mode == theirs.DEVICE_MIG_ENABLE, ret2))
		for slot := range 2 {
			p, ret := a.Partition(slot)
			q, theirRet := b.GetMigDeviceHandleByIndex(slot)
			same("partition", answer{nil, int32(ret)}, answer{nil, int32(theirRet)})
			if ret == ours.Success {
				sameDevice(t, same, p, q)
			}
		}
	}
	_, ret := us.Device(2)
	_, theirRet := them.DeviceGetHandleByIndex(2)
	same("no device", answer{nil, int32(ret)}, answer{nil, int32(theirRet)})
}

func sameDevice(t *testing.T, same func(string, answer, answer), a ours.Device, b theirs.Device) {
	t.Helper()
	same("UUID", our(a.UUID()), their(b.GetUUID()))
	same("name", our(a.Name()), their(b.GetName()))
	pci, ret := b.GetPciInfo()
	if ret == theirs.SUCCESS {
		var bus []byte
		for _, c := range pci.BusId {
			if c == 0 {
				break
			}
			bus = append(bus, byte(c))
		}
		same("bus", our(a.BusID()), answer{string(bus), 0})
	} else {
		_, own := a.BusID()
		same("bus", answer{nil, int32(own)}, answer{nil, int32(ret)})
	}
	m, ret := b.GetMemoryInfo()
	same("memory", our(a.Memory()), their(ours.Memory{Total: m.Total, Free: m.Free, Used: m.Used}, ret))
	mode, ret := b.GetComputeMode()
	same("compute mode", our(a.ComputeMode()), their(ours.ComputeMode(mode), ret))
	_, uncorrectable, pending, failed, ret := b.GetRemappedRows()
	same("rows", our(a.RemappedRows()), their(ours.RemappedRows{Uncorrectable: uint32(uncorrectable), Pending: pending, Failed: failed}, ret))
	retired, ret := b.GetRetiredPagesPendingStatus()
	same("pages", our(a.RetiredPagesPending()), their(retired == theirs.FEATURE_ENABLED, ret))
	sameProcesses(t, "compute", first(a.ComputeProcesses()), first(b.GetComputeRunningProcesses()))
	sameProcesses(t, "MPS", first(a.MPSProcesses()), first(b.GetMPSComputeRunningProcesses()))
	_, own := a.GraphicsProcesses()
	_, ret = b.GetGraphicsRunningProcesses()
	same("graphics", answer{nil, int32(own)}, answer{nil, int32(ret)})
}

func first[T, R any](value T, _ R) T { return value }

func sameProcesses(t *testing.T, what string, a []ours.Process, b []theirs.ProcessInfo) {
	t.Helper()
	var read []ours.Process
	for _, p := range b {
		read = append(read, ours.Process{PID: p.Pid, Memory: p.UsedGpuMemory})
	}
	if !slices.Equal(a, read) {
		t.Errorf("%s: ours are %+v, theirs %+v", what, a, read)
	}
}

// The numbers and names of failures are NVIDIA's.
func TestSameReturns(t *testing.T) {
	for own, theirs := range map[ours.Return]theirs.Return{
		ours.Success: theirs.SUCCESS, ours.NotSupported: theirs.ERROR_NOT_SUPPORTED, ours.NoPermission: theirs.ERROR_NO_PERMISSION,
		ours.NotFound: theirs.ERROR_NOT_FOUND, ours.InsufficientSize: theirs.ERROR_INSUFFICIENT_SIZE,
		ours.DriverNotLoaded: theirs.ERROR_DRIVER_NOT_LOADED, ours.LibraryNotFound: theirs.ERROR_LIBRARY_NOT_FOUND,
		ours.FunctionNotFound: theirs.ERROR_FUNCTION_NOT_FOUND, ours.GPUIsLost: theirs.ERROR_GPU_IS_LOST,
		ours.ResetRequired: theirs.ERROR_RESET_REQUIRED, ours.LibVersionMismatch: theirs.ERROR_LIB_RM_VERSION_MISMATCH,
		ours.Unknown: theirs.ERROR_UNKNOWN,
	} {
		if int32(own) != int32(theirs) {
			t.Errorf("%s is %d, and %d in nvml.h", own.Error(), own, theirs)
		}
	}
	if ours.ComputeModeProhibited != ours.ComputeMode(theirs.COMPUTEMODE_PROHIBITED) {
		t.Error("who may compute is numbered otherwise in nvml.h")
	}
}
