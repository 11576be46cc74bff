// Package nvmltest is an NVML for tests: a library with devices in good health, each answer of which can be replaced.
//
// Tests alone may import it.
package nvmltest

import (
	"fmt"

	"github.com/llama-orch/engine-provisioner/internal/nvml"
)

// Library stands for the driver's library. It is used by one goroutine at a time, as the real one.
type Library struct {
	Devices []*Device

	InitFunc          func() nvml.Return // nil: Success
	DriverVersionFunc func() (string, nvml.Return)
	DeviceCountFunc   func() (int, nvml.Return)
	DeviceFunc        func(index int) (nvml.Device, nvml.Return)

	Inits, Shutdowns int // how often they were called
}

// New is a library with so many GPUs of a name and memory, with the UUIDs GPU-0, GPU-1 and so on.
func New(count int, name string, memory uint64) *Library {
	l := &Library{}
	for i := range count {
		l.Devices = append(l.Devices, &Device{
			ID: fmt.Sprintf("GPU-%d", i), Model: name, Bus: fmt.Sprintf("00000000:%02X:00.0", i),
			Mem: nvml.Memory{Total: memory, Free: memory},
		})
	}
	return l
}

// DGX is a DGX A100: eight GPUs of 40 GiB.
func DGX() *Library { return New(8, "NVIDIA A100-SXM4-40GB", 40<<30) }

// Init counts the call.
func (l *Library) Init() nvml.Return {
	l.Inits++
	if l.InitFunc != nil {
		return l.InitFunc()
	}
	return nvml.Success
}

// Shutdown counts the call.
func (l *Library) Shutdown() nvml.Return {
	l.Shutdowns++
	return nvml.Success
}

// DriverVersion is 550.54.15.
func (l *Library) DriverVersion() (string, nvml.Return) {
	if l.DriverVersionFunc != nil {
		return l.DriverVersionFunc()
	}
	return "550.54.15", nvml.Success
}

// DeviceCount counts Devices.
func (l *Library) DeviceCount() (int, nvml.Return) {
	if l.DeviceCountFunc != nil {
		return l.DeviceCountFunc()
	}
	return len(l.Devices), nvml.Success
}

// Device is one of Devices.
func (l *Library) Device(index int) (nvml.Device, nvml.Return) {
	if l.DeviceFunc != nil {
		return l.DeviceFunc(index)
	}
	return l.Devices[index], nvml.Success
}

// Device is a GPU in good health without processes, or with Partitions. Fails holds calls by the name of their method that
// fail, and how.
type Device struct {
	ID, Model, Bus             string
	Mem                        nvml.Memory
	Mode                       nvml.ComputeMode
	Rows                       nvml.RemappedRows
	Retiring                   bool
	Split                      bool      // MIG mode is on
	Partitions                 []*Device // by slot; nil: an empty one
	Computing, Drawing, Shared []nvml.Process
	Fails                      map[string]nvml.Return
	Asked                      map[string]int // how often each method was called
}

func (d *Device) how(method string) nvml.Return {
	if d.Asked == nil {
		d.Asked = map[string]int{}
	}
	d.Asked[method]++
	return d.Fails[method] // Success when it is not there
}

// UUID is ID.
func (d *Device) UUID() (string, nvml.Return) { return d.ID, d.how("UUID") }

// Name is Model.
func (d *Device) Name() (string, nvml.Return) { return d.Model, d.how("Name") }

// BusID is Bus.
func (d *Device) BusID() (string, nvml.Return) { return d.Bus, d.how("BusID") }

// Memory is Mem.
func (d *Device) Memory() (nvml.Memory, nvml.Return) {
	if ret := d.how("Memory"); ret != nvml.Success {
		return nvml.Memory{}, ret
	}
	return d.Mem, nvml.Success
}

// ComputeMode is Mode.
func (d *Device) ComputeMode() (nvml.ComputeMode, nvml.Return) { return d.Mode, d.how("ComputeMode") }

// RemappedRows is Rows.
func (d *Device) RemappedRows() (nvml.RemappedRows, nvml.Return) {
	return d.Rows, d.how("RemappedRows")
}

// RetiredPagesPending is Retiring.
func (d *Device) RetiredPagesPending() (bool, nvml.Return) {
	return d.Retiring, d.how("RetiredPagesPending")
}

// MIG is Split.
func (d *Device) MIG() (bool, nvml.Return) { return d.Split, d.how("MIG") }

// PartitionSlots counts Partitions.
func (d *Device) PartitionSlots() (int, nvml.Return) {
	return len(d.Partitions), d.how("PartitionSlots")
}

// Partition is one of Partitions.
func (d *Device) Partition(slot int) (nvml.Device, nvml.Return) {
	if ret := d.how("Partition"); ret != nvml.Success {
		return nil, ret
	}
	if d.Partitions[slot] == nil {
		return nil, nvml.NotFound
	}
	return d.Partitions[slot], nvml.Success
}

// ComputeProcesses is Computing.
func (d *Device) ComputeProcesses() ([]nvml.Process, nvml.Return) {
	return d.Computing, d.how("ComputeProcesses")
}

// GraphicsProcesses is Drawing.
func (d *Device) GraphicsProcesses() ([]nvml.Process, nvml.Return) {
	return d.Drawing, d.how("GraphicsProcesses")
}

// MPSProcesses is Shared.
func (d *Device) MPSProcesses() ([]nvml.Process, nvml.Return) { return d.Shared, d.how("MPSProcesses") }
