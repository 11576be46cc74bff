// Package gpu knows the graphics processors of this node: which there are, which of them a replica gets, what confines an
// engine to them, whether it uses them once it is ready, and whether its memory is back when it has ended.
//
// The provisioner calls it, with facts and wishes as plain values. It starts nothing, reads no configuration, changes nothing
// on a device, and decides by what a vendor's driver tells alone: each driver is a package of its own.
package gpu

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/nvidia"
)

var (
	// ErrNoDriver is the cause where the node has no working driver, or this build cannot talk to it.
	ErrNoDriver = nvidia.ErrNoDriver
	// ErrNone is the cause where the driver works but there is no GPU that could be used.
	ErrNone = errors.New("no usable GPU")
)

const (
	// OtherPolicies is the way out that errors of a required GPU name.
	OtherPolicies = `set "gpu: optional" or "gpu: none"`
	seeDevices    = `check that the driver sees it by "nvidia-smi -L"`
)

// Device is one GPU, or one MIG partition of it, as the driver reports it.
type Device struct {
	Index       int    // in PCI bus order, as nvidia-smi counts; a partition has its GPU's
	UUID        string // "GPU-…" or "MIG-…"; "" when the device does not answer
	Name        string
	PCIBusID    string
	MemoryTotal uint64 // bytes
	MemoryFree  uint64 // bytes
	Problem     string // why it cannot be used; "" when it can
}

// partition tells whether the device is a MIG partition.
func (d Device) partition() bool { return strings.HasPrefix(d.UUID, "MIG-") }

// Label names the device for people.
func (d Device) Label() string {
	if d.UUID == "" {
		return strconv.Itoa(d.Index)
	}
	return fmt.Sprintf("%d (%s)", d.Index, d.UUID)
}

// Error says that GPUs are not there, not usable or not used.
type Error struct {
	Device string // index or UUID; "" when it is about all of them
	Err    error
	Advice string
}

func (e *Error) Error() string {
	what := "cannot use the GPU"
	if e.Device != "" {
		what = fmt.Sprintf("cannot use GPU %q", e.Device)
	}
	if e.Advice == "" {
		return fmt.Sprintf("%s: %v", what, e.Err)
	}
	return fmt.Sprintf("%s: %v; %s", what, e.Err, e.Advice)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Driver is what is asked of the GPUs' driver. It must be safe for concurrent use.
type Driver interface {
	// GPUs lists the devices in PCI bus order, MIG partitions among them.
	GPUs() ([]Device, error)
	// ProcessMemory is the GPU memory in bytes that each process holds over all devices. Inside a container the pids
	// may be the host's. It may hold something beside an error.
	ProcessMemory() (map[int]uint64, error)
}

// Node is the Driver of the node's own driver. It does not look whether there is one; the calls do.
func Node() Driver { return nvidiaDriver{nvidia.New()} }

type nvidiaDriver struct{ *nvidia.Driver }

func (n nvidiaDriver) GPUs() ([]Device, error) {
	found, err := n.Devices()
	devices := make([]Device, len(found))
	for i, d := range found {
		devices[i] = Device(d)
	}
	return devices, err
}

// List lists the devices. Its error is an *Error, or that of ctx where the driver did not answer before its end.
func List(ctx context.Context, d Driver) ([]Device, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cannot list the GPUs: %w", err)
	}
	devices, err := Ask(ctx, d.GPUs)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil, fmt.Errorf("cannot list the GPUs: %w", err)
	}
	if err != nil {
		return nil, driverError(err, "")
	}
	if len(devices) == 0 {
		return nil, &Error{Err: noDevice(), Advice: seeDevices}
	}
	return devices, nil
}

// Ask waits for ask until ctx is done. A driver that hangs, as after a GPU has fallen off the bus, cannot be
// interrupted: then the question is left behind.
func Ask[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	var answer T
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer, err = ask()
	}()
	select {
	case <-done:
		return answer, err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("the driver does not answer: %w", context.Cause(ctx))
	}
}

// driverError says that the driver cannot be asked at all.
func driverError(err error, wayOut string) *Error {
	out := &Error{Err: err, Advice: wayOut}
	if e, ok := errors.AsType[*nvidia.Error](err); ok && e.Advice != "" {
		out.Advice = e.Advice
		if wayOut != "" {
			out.Advice += ", or " + wayOut
		}
	}
	return out
}

func noDevice() error { return fmt.Errorf("%w: the driver works but lists no device", ErrNone) }
