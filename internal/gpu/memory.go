package gpu

import (
	"context"
	"slices"
	"time"
)

const (
	// memoryWait is how long the driver gets to give back the memory of an engine that has ended.
	memoryWait = 30 * time.Second
	// memoryQuiet is how long nothing may come back until it is taken for kept by others. The drivers give back what a process
	// had held within the second in which it ends; 5 s is for a machine under load.
	memoryQuiet = 5 * time.Second
)

// Use is how the GPUs of a launch stood before it.
type Use struct {
	GPUs []Device
	Held []Holding // by others, as far as the driver tells
}

// AwaitMemory returns when the GPUs have as much free memory as before the last launch, less 5 % and what other
// processes have taken since: an engine that starts sooner runs out of memory that nobody uses. Where that does not come
// about, as beside a neighbour whom the driver does not show, it returns all the same, once nothing comes back any more: all
// is true where it was enough. The error is ctx's cause.
func AwaitMemory(ctx context.Context, d Driver, before Use) (all bool, err error) {
	if !slices.ContainsFunc(before.GPUs, func(g Device) bool { return g.MemoryFree.Known() }) {
		return true, nil
	}
	waiting, cancel := context.WithTimeout(ctx, memoryWait)
	defer cancel()
	var most int64
	risen := time.Now()
	for {
		now, err := Ask(waiting, d.GPUs)
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if err != nil || !before.lacking(now, nil) {
			return waiting.Err() == nil, nil // a driver that fails is a matter of the start
		}
		held, _ := Ask(waiting, func() ([]Holding, error) { return d.Processes(nil) })
		if !before.lacking(now, held) {
			return true, nil
		}
		if free := before.free(now); free > most || most == 0 {
			most, risen = free, time.Now()
		}
		if time.Since(risen) >= memoryQuiet {
			return false, nil
		}
		select {
		case <-waiting.Done():
			if ctx.Err() != nil {
				return false, context.Cause(ctx)
			}
			return false, nil
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// free is what the GPUs of the launch have free now.
func (u Use) free(now []Device) (sum int64) {
	for _, g := range now {
		if g.MemoryFree.Known() && slices.ContainsFunc(u.GPUs, func(b Device) bool { return b.ID() == g.ID() }) {
			sum += int64(g.MemoryFree)
		}
	}
	return sum
}

// lacking reports whether a GPU has less free memory than before, apart from what others have taken of it.
func (u Use) lacking(now []Device, held []Holding) bool {
	return slices.ContainsFunc(u.GPUs, func(before Device) bool {
		return slices.ContainsFunc(now, func(g Device) bool {
			if g.ID() != before.ID() || !g.MemoryFree.Known() || !before.MemoryFree.Known() || before.Unified {
				return false
			}
			return float64(g.MemoryFree)+float64(u.taken(before, held)) < 0.95*float64(before.MemoryFree)
		})
	})
}

// taken is what processes hold of a GPU now beyond what they held before. One that has ended is not among them.
func (u Use) taken(of Device, now []Holding) (bytes uint64) {
	on := func(all []Holding) map[int]uint64 {
		return ByProcess(slices.DeleteFunc(slices.Clone(all), func(h Holding) bool { return !h.of(of) }))
	}
	before := on(u.Held)
	for pid, n := range on(now) {
		bytes += n - min(n, before[pid])
	}
	return bytes
}
