package fleet

import (
	"context"
	"iter"
	"slices"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/feed"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// ReadEvents returns the events that the fleets of a state directory ("" means .runtime) have kept, oldest first: at
// least those of the last 1 MiB. With follow it goes on with what comes, from later fleets, too, until ctx ends,
// which is no error. An error is about a line or an attempt to read; events may follow it.
func ReadEvents(ctx context.Context, stateDir string, follow bool) iter.Seq2[provisioner.Event, error] {
	dir, err := state.Dir(stateDir)
	if err != nil {
		return func(yield func(provisioner.Event, error) bool) { yield(provisioner.Event{}, err) }
	}
	return state.ReadEvents[provisioner.Event](ctx, dir, follow)
}

// observe has events go to the readers and the file, and to fn.
func (f *Fleet) observe(fn func(provisioner.Event)) {
	f.tell = func(e provisioner.Event) {
		f.board.See(e)
		if e = f.feed.Publish(e); fn != nil {
			fn(e)
		}
	}
	f.opts = append(slices.Clone(f.opts), provisioner.WithLogger(f.log), provisioner.WithEventFunc(func(e provisioner.Event) {
		if n, known := f.attempts.Load(e.ID()); known {
			e.Attempt = n.(int)
		}
		f.tell(e)
	}))
	file := feed.File{Dir: f.state, Board: f.board}
	f.since = file.NextSeq()
	f.feed.Continue(f.since)
	events := f.feed.Subscribe(context.Background())
	go func() {
		defer close(f.kept)
		file.Keep(events, func(err error) {
			message := err.Error() + "; events go on without the file"
			f.log.Warn(message)
			f.tell(provisioner.Event{Time: time.Now().UTC(), Kind: provisioner.EventNote, Message: message})
		})
	}()
}

// Events returns a channel of all events from now on, of all replicas, in order for each. What was before, Status
// tells, or WithEventFunc, which misses nothing. The channel is closed when ctx ends, or after the last event when the
// fleet has ended. Neither engines nor the fleet wait for its reader: one that lags by more than 256 events
// misses the oldest of them, and Missed of the next event says how many. Whoever stops reading ends ctx.
func (f *Fleet) Events(ctx context.Context) <-chan provisioner.Event {
	return f.feed.Subscribe(ctx)
}

// EventsAfter is Events for who has seen those up to a number, of an earlier fleet of the state directory, too: it
// begins with what is kept of later ones, and goes on without gap or double. 0 means all that are kept.
func (f *Fleet) EventsAfter(ctx context.Context, seq uint64) <-chan provisioner.Event {
	return f.feed.After(ctx, feed.File{Dir: f.state}, seq, f.since)
}

// Snapshot returns where the replicas stand, as Status does, and the number of the last event that is certainly in it: what
// follows comes from EventsAfter that number.
func (f *Fleet) Snapshot() ([]provisioner.Status, uint64) {
	seq := f.feed.Last()
	return f.Status(), seq
}
