package gpu

import (
	"context"
	"errors"
	"slices"
	"time"
)

// memoryWait is how long the driver gets to give back the memory of an engine that has ended.
const memoryWait = 30 * time.Second

// ErrBusy says that memory of a GPU was not given back.
var ErrBusy = errors.New("the GPU's memory was not given back")

// Use is how the GPUs of a launch stood before it.
type Use struct {
	GPUs []Device
	Held map[int]uint64 // by process, as far as the driver tells
}

// AwaitMemory returns when the GPUs have as much free memory as before the last launch, less 5 % and what other
// processes have taken since: an engine that starts sooner runs out of memory that nobody uses.
func AwaitMemory(ctx context.Context, d Driver, before Use) error {
	if len(before.GPUs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, memoryWait, ErrBusy)
	defer cancel()
	for {
		now, err := Ask(ctx, d.GPUs)
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || !slices.ContainsFunc(before.GPUs, func(b Device) bool { return lacks(now, b, 0) }) {
			return nil // a driver that fails is a matter of the start
		}
		held, _ := Ask(ctx, d.ProcessMemory)
		if taken := before.taken(held); !slices.ContainsFunc(before.GPUs, func(b Device) bool { return lacks(now, b, taken) }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// taken is what processes hold now beyond what they held before. One that has ended is not among them.
func (u Use) taken(now map[int]uint64) (bytes uint64) {
	for pid, n := range now {
		bytes += n - min(n, u.Held[pid])
	}
	return bytes
}

// lacks reports whether a GPU has less free memory than before, apart from what others have taken.
func lacks(now []Device, before Device, taken uint64) bool {
	return slices.ContainsFunc(now, func(g Device) bool {
		return g.UUID == before.UUID && float64(g.MemoryFree+taken) < 0.95*float64(before.MemoryFree)
	})
}
