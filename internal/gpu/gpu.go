// Package gpu knows the graphics processors of this node: which there are, which of them a replica gets, what confines an
// engine to them, whether it uses them once it is ready, and whether its memory is back when it has ended.
//
// The provisioner calls it, with facts and wishes as plain values. It starts nothing, reads no configuration, changes nothing
// on a device, and decides by what drivers and the kernel tell alone: each way of asking is a package of its own.
package gpu

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
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

// Device is one GPU, or one partition of it.
type Device = engine.GPU

// partition tells whether the device is a MIG partition.
func partition(d Device) bool { return strings.HasPrefix(d.UUID, "MIG-") }

// Number is the device's index, or the executable's name for one that it alone knows.
func Number(d Device) string {
	if vendor(d) == "" {
		return d.ID()
	}
	return strconv.Itoa(d.Index)
}

// Label names the device for people.
func Label(d Device) string {
	if id := d.ID(); id != "" && id != Number(d) {
		return fmt.Sprintf("%s (%s)", Number(d), id)
	}
	return Number(d)
}

func labels(gpus []Device) string {
	out := make([]string, len(gpus))
	for i, g := range gpus {
		out[i] = Label(g)
	}
	return strings.Join(out, ", ")
}

// Error says that GPUs are not there, not usable or not used.
type Error struct {
	Device string // index, UUID or address; "" when it is about all of them
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

// Driver is what is asked of the node about its GPUs. It must be safe for concurrent use.
type Driver interface {
	// GPUs lists the devices of all vendors: those of NVIDIA in PCI bus order with MIG partitions among them, of AMD, of Intel.
	GPUs() ([]Device, error)
	// Processes tells what processes hold of which device: those with these ids as far as this user may see it, and any that
	// a driver lists by itself, whose ids may be those of the host inside a container. It may hold something beside an error.
	Processes(pids []int) ([]Holding, error)
}

// Holding is the memory of a GPU that a process holds.
type Holding struct {
	PID   int
	GPU   string // the UUID of the device, or its PCI address; "" where it is not known which it is
	Bytes uint64 // 0 where the process is known to use the device, but not how much of it
}

// of reports whether it is, or may be, memory of d.
func (h Holding) of(d Device) bool { return h.GPU == "" || h.GPU == d.UUID || h.GPU == d.PCIBusID }

// ByProcess sums up what each process holds.
func ByProcess(all []Holding) map[int]uint64 {
	held := map[int]uint64{}
	for _, h := range all {
		held[h.PID] += h.Bytes
	}
	return held
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
