// Package nvidia asks the NVIDIA driver which GPUs there are, how they are, and which processes hold their memory.
//
// It talks to NVML, whose library comes with the driver and is opened when a call needs it. A program that was built for
// another system than Linux on amd64 or arm64 compiles and gets an [*Error] from every call.
package nvidia

import "errors"

// ErrNoDriver is wrapped by the errors that say that this node has no working NVIDIA driver.
var ErrNoDriver = errors.New("no NVIDIA driver")

// Error is a failure of the driver as a whole.
type Error struct {
	Text   string // what is wrong
	Advice string // what to do about it; "" when there is nothing to say
	Err    error  // the cause, such as ErrNoDriver; nil when there is none
}

// Error says what is wrong, without the advice.
func (e *Error) Error() string { return e.Text }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Device is one GPU, or one MIG partition of it. A partition has its GPU's Index and PCIBusID.
type Device struct {
	Index       int    // in PCI bus order, as nvidia-smi counts
	UUID        string // "GPU-…" or "MIG-…"; "" when the device does not answer
	Name        string
	PCIBusID    string
	MemoryTotal uint64 // bytes
	MemoryFree  uint64 // bytes
	Unified     bool   // it works in main memory, and the driver has no numbers of its own: GB10, Thor
	Problem     string // why it cannot be used; "" when it can
}

// Process is what a process holds of one device.
type Process struct {
	PID    int
	Device string // its UUID
	Bytes  uint64 // 0 when the driver knows that the process uses the device but not how much of it
}
