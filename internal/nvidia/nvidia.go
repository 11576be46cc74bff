//go:build linux && (amd64 || arm64) && !static

package nvidia

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/llama-orch/engine-provisioner/internal/nvml"
)

// Available tells whether this build can open the driver's library.
const Available = nvml.Available

// Driver talks to the NVIDIA driver. It keeps nothing between calls: each opens the driver's library and closes it
// again. A Driver is safe for concurrent use.
type Driver struct {
	session sync.Mutex // one caller at a time is between Init and Shutdown
	lib     nvml.Library
}

// New returns a Driver for the node's own driver. It does not look whether there is one; the calls do.
func New() *Driver { return NewWith(nvml.Open("libnvidia-ml.so.1")) }

// NewWith returns a Driver over another NVML than the node's own, such as one of package nvmltest.
func NewWith(lib nvml.Library) *Driver { return &Driver{lib: lib} }

// Version is the driver's version, such as "580.95.05".
func (d *Driver) Version() (string, error) {
	var version string
	err := d.open(func() error {
		v, ret := d.lib.DriverVersion()
		if ret != nvml.Success {
			return failure("cannot read the driver's version", ret)
		}
		version = v
		return nil
	})
	return version, err
}

// Devices lists the GPUs in PCI bus order, each followed by its MIG partitions. A GPU that is in a bad state is listed
// with its Problem.
func (d *Driver) Devices() ([]Device, error) {
	var devices []Device
	err := d.open(func() error {
		return d.each(func(index int, dev nvml.Device, ret nvml.Return) {
			if ret != nvml.Success {
				devices = append(devices, Device{Index: index, Problem: stateText(ret)})
				return
			}
			gpu := describe(index, dev)
			if gpu.Problem == "" {
				gpu.Problem = d.problem(dev)
			}
			if !split(dev) {
				devices = append(devices, gpu)
				return
			}
			var partitions []Device
			for _, mig := range partitionsOf(dev) {
				p := describe(index, mig)
				p.PCIBusID = gpu.PCIBusID
				if p.Problem == "" {
					p.Problem = gpu.Problem // a partition of a lost GPU is lost, too
				}
				partitions = append(partitions, p)
			}
			if gpu.Problem == "" {
				gpu.Problem = splitText(partitions)
			}
			devices = append(append(devices, gpu), partitions...)
		})
	})
	return devices, err
}

// Processes lists what each process holds of each device, or partition. When a device cannot be asked, what the others say
// comes back beside the error.
//
// Inside a container the ids may be those of the host (NVIDIA/nvidia-docker#1483), or ids of the container with 0
// bytes (NVIDIA/open-gpu-kernel-modules#614, Project-HAMi/HAMi-core#112), depending on the driver's version.
func (d *Driver) Processes() ([]Process, error) {
	var all []Process
	err := d.open(func() error {
		var failed error
		err := d.each(func(index int, dev nvml.Device, ret nvml.Return) {
			if ret == nvml.Success {
				var some []Process
				some, ret = processes(dev)
				all = append(all, some...)
			}
			if ret != nvml.Success && failed == nil {
				failed = failure(fmt.Sprintf("cannot list the processes on GPU %d", index), ret)
			}
		})
		if err != nil {
			return err
		}
		return failed
	})
	return all, err
}

// open runs f between Init and Shutdown.
func (d *Driver) open(f func() error) error {
	d.session.Lock()
	defer d.session.Unlock()
	if ret := d.lib.Init(); ret != nvml.Success {
		return initFailure(ret)
	}
	defer func() { _ = d.lib.Shutdown() }()
	return f()
}

// each calls f for every GPU. NVML's order is PCI bus order, the one that nvidia-smi shows.
func (d *Driver) each(f func(index int, dev nvml.Device, ret nvml.Return)) error {
	count, ret := d.lib.DeviceCount()
	if ret != nvml.Success {
		return failure("cannot count the GPUs", ret)
	}
	for i := range count {
		dev, ret := d.lib.Device(i)
		f(i, dev, ret)
	}
	return nil
}

// describe reads what identifies a device and how much memory it has.
func describe(index int, dev nvml.Device) Device {
	out := Device{Index: index}
	note := func(ret nvml.Return) {
		if ret != nvml.Success && ret != nvml.NotSupported && out.Problem == "" {
			out.Problem = stateText(ret)
		}
	}
	var ret nvml.Return
	out.UUID, ret = dev.UUID()
	note(ret)
	out.Name, ret = dev.Name()
	note(ret)
	memory, ret := dev.Memory()
	note(ret)
	out.MemoryTotal, out.MemoryFree = memory.Total, memory.Free
	// GB10 and Thor say that it is not supported, or 0 (leptonai/gpud#1170, XuehaiPan/nvitop#208).
	out.Unified = ret == nvml.NotSupported || ret == nvml.Success && memory.Total == 0
	// Drivers differ in whether a partition has PCI facts of its own, so that a failure says nothing of its state.
	if bus, ret := dev.BusID(); ret == nvml.Success {
		out.PCIBusID = bus
	}
	return out
}

// problem says why a GPU that answers is not fit for use. Queries that a GPU or driver does not know are passed over.
func (d *Driver) problem(dev nvml.Device) string {
	if mode, ret := dev.ComputeMode(); broken(ret) {
		return stateText(ret)
	} else if ret == nvml.Success && mode == nvml.ComputeModeProhibited {
		return `its compute mode is "prohibited"; allow it by "nvidia-smi -c DEFAULT"`
	}
	rows, ret := dev.RemappedRows()
	switch {
	case broken(ret):
		return stateText(ret)
	case ret != nvml.Success:
	case rows.Failed:
		return "its memory has an error that could not be repaired by remapping; replace it"
	case rows.Pending && rows.Uncorrectable > 0:
		return "its memory had an uncorrectable error and waits for remapping; reset it"
	}
	if pending, ret := dev.RetiredPagesPending(); broken(ret) {
		return stateText(ret)
	} else if ret == nvml.Success && pending {
		return "its memory has pages that wait for retirement after ECC errors; reset it"
	}
	return ""
}

// split tells whether MIG mode is on.
func split(dev nvml.Device) bool {
	on, ret := dev.MIG()
	return ret == nvml.Success && on
}

// partitionsOf lists a GPU's MIG devices. Their slots have gaps.
func partitionsOf(dev nvml.Device) []nvml.Device {
	var out []nvml.Device
	slots, ret := dev.PartitionSlots()
	if ret != nvml.Success {
		return nil
	}
	for i := range slots {
		if mig, ret := dev.Partition(i); ret == nvml.Success {
			out = append(out, mig)
		}
	}
	return out
}

func splitText(partitions []Device) string {
	if len(partitions) == 0 {
		return `MIG mode is on and it has no partition; make one by "nvidia-smi mig -cgi", or turn MIG mode off`
	}
	names := make([]string, len(partitions))
	for i, p := range partitions {
		names[i] = p.UUID
	}
	return "it is split into MIG partitions; name one of them: " + strings.Join(names, ", ")
}

// processes lists what each process holds of dev. A GPU in MIG mode is asked by partition: the sum over the GPU takes
// privileges.
func processes(dev nvml.Device) (all []Process, ret nvml.Return) {
	if !split(dev) {
		return list(dev)
	}
	for _, mig := range partitionsOf(dev) {
		some, ret := list(mig)
		if all = append(all, some...); ret != nvml.Success {
			return all, ret
		}
	}
	return all, nvml.Success
}

func list(dev nvml.Device) (all []Process, ret nvml.Return) {
	held := map[int]uint64{}
	add := func(processes []nvml.Process) {
		for _, p := range processes {
			used := p.Memory
			if used == ^uint64(0) { // NVML_VALUE_NOT_AVAILABLE
				used = 0
			}
			// A process that computes and draws stands in both lists with the same number.
			held[int(p.PID)] = max(held[int(p.PID)], used)
		}
	}
	computing, ret := dev.ComputeProcesses()
	if ret != nvml.Success {
		return nil, ret
	}
	add(computing)
	// Vulkan engines stand in the list of graphics, and those under MPS in one of their own.
	if drawing, ret := dev.GraphicsProcesses(); ret == nvml.Success {
		add(drawing)
	}
	if shared, ret := dev.MPSProcesses(); ret == nvml.Success {
		add(shared)
	}
	uuid, _ := dev.UUID()
	for _, pid := range slices.Sorted(maps.Keys(held)) {
		all = append(all, Process{PID: pid, Device: uuid, Bytes: held[pid]})
	}
	return all, nvml.Success
}

// broken tells a device that fails from a query that it does not know.
func broken(ret nvml.Return) bool {
	return ret == nvml.GPUIsLost || ret == nvml.ResetRequired
}

// stateText says what a failed query tells of a device.
func stateText(ret nvml.Return) string {
	switch ret {
	case nvml.GPUIsLost:
		return `it is lost (fell off the bus); look for "Xid" in the kernel log and reboot the node`
	case nvml.ResetRequired:
		return `it needs a reset; stop what uses it and run "nvidia-smi --gpu-reset"`
	case nvml.NoPermission:
		return "this user may not use it; check the rights on /dev/nvidia*"
	}
	return fmt.Sprintf("the driver cannot read its state (%v)", ret)
}

func initFailure(ret nvml.Return) error {
	switch ret {
	case nvml.LibraryNotFound:
		return &Error{"no NVIDIA driver (libnvidia-ml.so.1 not found)", "install the driver", ErrNoDriver}
	case nvml.DriverNotLoaded:
		return &Error{"no NVIDIA driver (its kernel module is not loaded)", `load it by "modprobe nvidia"`, ErrNoDriver}
	case nvml.LibVersionMismatch:
		return &Error{
			"the NVIDIA driver's library and kernel module differ in version", "reboot the node after the driver's update", ret,
		}
	case nvml.NoPermission:
		return &Error{"this user may not use the NVIDIA driver", "check the rights on /dev/nvidia*", ret}
	}
	return failure("cannot open the NVIDIA driver", ret)
}

func failure(what string, ret nvml.Return) error {
	return &Error{Text: fmt.Sprintf("%s: %v", what, ret), Err: ret}
}
