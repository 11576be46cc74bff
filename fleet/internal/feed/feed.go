// Package feed passes the events of a fleet on to any number of readers, and waits for none of them. It owns their numbers,
// what each reader has still to read, and the one reader that keeps them in the file of events.
package feed

import (
	"context"
	"slices"
	"sync"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// Buffer is how many events a reader may lag behind. A restart makes about eight, so it is good for a pool of some
// dozen replicas that crash together.
const Buffer = 256

// Feed passes events on. Its zero value is good, and its methods are safe for concurrent use.
type Feed struct {
	mu      sync.Mutex
	seq     uint64              // of the last event
	recent  []provisioner.Event // the last ones that have numbers, for whoever comes before the file has them
	readers map[*reader]struct{}
	closed  bool
}

// reader is what one reader has still to read. Its oldest events make room for new ones: who lags wants to know how
// things stand now.
type reader struct {
	mu     sync.Mutex
	queue  []provisioner.Event
	missed int // before the first of queue
	closed bool
	wake   chan struct{} // holds one token when there is something to look at
}

// Publish gives an event its number and passes it on. It never blocks.
func (f *Feed) Publish(e provisioner.Event) provisioner.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Kind != provisioner.EventProgress {
		f.seq++
		e.Seq = f.seq
		if f.recent = append(f.recent, e); len(f.recent) > 2*Buffer {
			f.recent = slices.Clone(f.recent[Buffer:])
		}
	}
	for r := range f.readers {
		r.add(e)
	}
	return e
}

// Continue begins after a number, before anything is published.
func (f *Feed) Continue(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq = seq
}

// Last is the number of the last event.
func (f *Feed) Last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seq
}

// Close lets the readers read what they have, and no more.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for r := range f.readers {
		r.end()
	}
}

// Subscribe gives the events from now on. The channel is closed when ctx ends, or when the feed is closed and all is
// read.
func (f *Feed) Subscribe(ctx context.Context) <-chan provisioner.Event {
	_, live := f.Join(ctx)
	return live
}

// Join is Subscribe with the events just before, as far as they are remembered.
func (f *Feed) Join(ctx context.Context) (before []provisioner.Event, live <-chan provisioner.Event) {
	r := &reader{wake: make(chan struct{}, 1)}
	f.mu.Lock()
	before = slices.Clone(f.recent)
	if f.closed {
		r.end()
	} else {
		if f.readers == nil {
			f.readers = map[*reader]struct{}{}
		}
		f.readers[r] = struct{}{}
	}
	f.mu.Unlock()
	out := make(chan provisioner.Event)
	go func() {
		defer close(out)
		r.pump(ctx, out)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.readers, r)
	}()
	return before, out
}

func (r *reader) add(e provisioner.Event) {
	r.mu.Lock()
	if e.Kind == provisioner.EventProgress { // only the last counts, and it must not push out what matters
		r.queue = slices.DeleteFunc(r.queue, func(old provisioner.Event) bool {
			return old.Kind == provisioner.EventProgress && old.Missed == 0 && old.Pool == e.Pool && old.Replica == e.Replica
		})
	}
	if len(r.queue) == Buffer {
		r.missed += 1 + r.queue[0].Missed
		r.queue = r.queue[1:]
	}
	r.queue = append(r.queue, e)
	r.mu.Unlock()
	r.rouse()
}

func (r *reader) end() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.rouse()
}

func (r *reader) rouse() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reader) pump(ctx context.Context, out chan<- provisioner.Event) {
	for {
		e, ok, closed := r.next()
		switch {
		case ok:
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		case closed:
			return
		default:
			select {
			case <-r.wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (r *reader) next() (e provisioner.Event, ok, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return provisioner.Event{}, false, r.closed
	}
	e = r.queue[0]
	e.Missed += r.missed
	r.queue, r.missed = r.queue[1:], 0
	return e, true, r.closed
}
