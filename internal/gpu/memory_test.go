package gpu

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
)

// timedGPUs has its answers by the time since it was made.
type timedGPUs struct {
	began time.Time
	free  func(after time.Duration) engine.Bytes
	held  func(after time.Duration) []Holding
	err   error
}

func (d *timedGPUs) GPUs() ([]Device, error) {
	g := gpu0
	g.MemoryFree = d.free(time.Since(d.began))
	return []Device{g, gpu1}, d.err
}

func (d *timedGPUs) Processes([]int) ([]Holding, error) {
	if d.held == nil {
		return nil, errForeignPIDs
	}
	return d.held(time.Since(d.began)), nil
}

// Memory of the last launch must be back before the next one, but what others have taken since never will be. Whatever
// happens, it costs no start.
func TestAwaitMemory(t *testing.T) {
	t.Parallel()
	always := func(n engine.Bytes) func(time.Duration) engine.Bytes {
		return func(time.Duration) engine.Bytes { return n }
	}
	from := func(at time.Duration, before, then engine.Bytes) func(time.Duration) engine.Bytes {
		return func(after time.Duration) engine.Bytes {
			if after < at {
				return before
			}
			return then
		}
	}
	holds := func(all ...Holding) func(time.Duration) []Holding {
		return func(time.Duration) []Holding { return all }
	}
	neighbour := Holding{7, gpu0.UUID, 9 << 30}
	for name, tt := range map[string]struct {
		free    func(time.Duration) engine.Bytes
		held    func(time.Duration) []Holding
		unified bool
		err     error
		all     bool
		least   time.Duration // that it takes
		most    time.Duration
	}{
		"all is back":                    {free: always(30 << 30), held: holds(neighbour), all: true},
		"all but little":                 {free: always(29 << 30), held: holds(), all: true},
		"after a while":                  {free: from(3*time.Second, 10<<30, 30<<30), held: holds(neighbour), all: true, least: 3 * time.Second, most: 4 * time.Second},
		"another replica has come":       {free: always(10 << 30), held: holds(neighbour, Holding{8, gpu0.UUID, 20 << 30}), all: true},
		"another has grown":              {free: always(10 << 30), held: holds(Holding{7, gpu0.UUID, 29 << 30}), all: true},
		"another, on another GPU":        {free: always(10 << 30), held: holds(neighbour, Holding{8, gpu1.UUID, 20 << 30}), least: memoryQuiet, most: 6 * time.Second},
		"another, and not all is back":   {free: always(5 << 30), held: holds(neighbour, Holding{8, gpu0.UUID, 20 << 30}), least: memoryQuiet, most: 6 * time.Second},
		"nobody is seen, and it is back": {free: from(2*time.Second, 10<<30, 30<<30), all: true, least: 2 * time.Second, most: 3 * time.Second},
		"a neighbour that nobody sees":   {free: from(2*time.Second, 5<<30, 20<<30), least: 7 * time.Second, most: 8 * time.Second},
		"it comes back slowly":           {free: func(d time.Duration) engine.Bytes { return engine.Bytes(d.Seconds()) << 28 }, least: memoryWait, most: memoryWait + time.Second},
		"not known any more":             {free: always(engine.UnknownBytes), all: true},
		"main memory":                    {free: always(1 << 30), unified: true, all: true},
		"the driver fails":               {free: always(1 << 30), err: errors.New("bad"), all: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := gpu0
				g.MemoryFree, g.Unified = 30<<30, tt.unified
				d := &timedGPUs{began: time.Now(), free: tt.free, held: tt.held, err: tt.err}
				all, err := AwaitMemory(t.Context(), d, Use{GPUs: []Device{g}, Held: []Holding{neighbour}})
				if took := time.Since(d.began); err != nil || all != tt.all || took < tt.least || took > tt.most {
					t.Errorf("got %v, %v after %s", all, err, took)
				}
			})
		})
	}
}

func TestAwaitMemoryCanceled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := &timedGPUs{began: time.Now(), free: func(time.Duration) engine.Bytes { return 1 }}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := AwaitMemory(ctx, d, Use{GPUs: []Device{gpu0}}); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		time.Sleep(time.Second)
		cancel()
		wg.Wait()
	})
}

// What is not known is not waited for, and nobody is asked.
func TestAwaitMemoryUnknown(t *testing.T) {
	t.Parallel()
	d := &fakeGPUs{}
	all, err := AwaitMemory(t.Context(), d, Use{GPUs: []Device{{Vendor: engine.VendorIntel, MemoryFree: engine.UnknownBytes}}})
	if !all || err != nil || d.asked.Load() != 0 {
		t.Errorf("got %v, %v after %d questions", all, err, d.asked.Load())
	}
}
