// Package nvml is the part of NVML that internal/nvidia asks: functions of libnvidia-ml.so.1, which comes with the NVIDIA
// driver, in Go.
//
// The library is opened while the program runs, without cgo, so that a build needs no C compiler and no header of NVIDIA's. A
// function that the library at hand is too old for answers [FunctionNotFound]. The package knows nothing of what answers mean;
// internal/nvidia does, and is the only one to call it beside scripts/testgpu, a witness of its own. Package nvmltest stands for it in tests.
package nvml

import "fmt"

// Return is how a call went. The numbers are those of nvml.h.
type Return int32

// What internal/nvidia tells apart.
const (
	Success            Return = 0
	NotSupported       Return = 3
	NoPermission       Return = 4
	NotFound           Return = 6
	InsufficientSize   Return = 7
	DriverNotLoaded    Return = 9
	LibraryNotFound    Return = 12
	FunctionNotFound   Return = 13
	GPUIsLost          Return = 15
	ResetRequired      Return = 16
	LibVersionMismatch Return = 18
	Unknown            Return = 999
)

// names are what nvml.h calls the failures, for whoever searches for them.
var names = map[Return]string{
	Success:            "SUCCESS",
	1:                  "ERROR_UNINITIALIZED",
	2:                  "ERROR_INVALID_ARGUMENT",
	NotSupported:       "ERROR_NOT_SUPPORTED",
	NoPermission:       "ERROR_NO_PERMISSION",
	NotFound:           "ERROR_NOT_FOUND",
	InsufficientSize:   "ERROR_INSUFFICIENT_SIZE",
	DriverNotLoaded:    "ERROR_DRIVER_NOT_LOADED",
	10:                 "ERROR_TIMEOUT",
	11:                 "ERROR_IRQ_ISSUE",
	LibraryNotFound:    "ERROR_LIBRARY_NOT_FOUND",
	FunctionNotFound:   "ERROR_FUNCTION_NOT_FOUND",
	14:                 "ERROR_CORRUPTED_INFOROM",
	GPUIsLost:          "ERROR_GPU_IS_LOST",
	ResetRequired:      "ERROR_RESET_REQUIRED",
	17:                 "ERROR_OPERATING_SYSTEM",
	LibVersionMismatch: "ERROR_LIB_RM_VERSION_MISMATCH",
	19:                 "ERROR_IN_USE",
	20:                 "ERROR_MEMORY",
	21:                 "ERROR_NO_DATA",
	23:                 "ERROR_INSUFFICIENT_RESOURCES",
	27:                 "ERROR_NOT_READY",
	28:                 "ERROR_GPU_NOT_FOUND",
	29:                 "ERROR_INVALID_STATE",
	Unknown:            "ERROR_UNKNOWN",
}

// Error is the name in nvml.h without "NVML_", such as "ERROR_GPU_IS_LOST".
func (r Return) Error() string {
	if name, ok := names[r]; ok {
		return name
	}
	return fmt.Sprintf("NVML error %d", int32(r))
}

// ComputeMode is who may compute on a device.
type ComputeMode int32

// ComputeModeProhibited lets nobody.
const ComputeModeProhibited ComputeMode = 2

// Memory is a device's, in bytes.
type Memory struct{ Total, Free, Used uint64 }

// Process is one that uses a device.
type Process struct {
	PID    uint32
	Memory uint64 // bytes; all ones where the driver does not know
}

// RemappedRows is what has become of rows of memory with errors.
type RemappedRows struct {
	Uncorrectable   uint32
	Pending, Failed bool
}

// Library is the driver's library. Between Init and Shutdown, and only there, the others may be called, by one goroutine at a
// time.
type Library interface {
	Init() Return
	Shutdown() Return
	DriverVersion() (string, Return)
	DeviceCount() (int, Return)
	Device(index int) (Device, Return)
}

// Device is a GPU, or a MIG partition of one. It is good until Shutdown.
type Device interface {
	UUID() (string, Return)
	Name() (string, Return)
	BusID() (string, Return) // such as "00000000:3B:00.0"
	Memory() (Memory, Return)
	ComputeMode() (ComputeMode, Return)
	RemappedRows() (RemappedRows, Return)
	RetiredPagesPending() (bool, Return)
	MIG() (on bool, ret Return)
	PartitionSlots() (int, Return)
	Partition(slot int) (Device, Return)
	ComputeProcesses() ([]Process, Return)
	GraphicsProcesses() ([]Process, Return)
	MPSProcesses() ([]Process, Return)
}
