package fleet

import (
	"context"
	"iter"
	"slices"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/board"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// eventFile keeps the events of a state directory.
type eventFile struct {
	dir   string
	board *board.Board
	lost  int // events since the file could not be written
}

// keep writes until events is closed. The first of several failures in a row is told to failed; the events that are
// lost meanwhile are counted in the next one that can be written.
func (f *eventFile) keep(events <-chan provisioner.Event, failed func(error)) {
	for e := range events {
		if f.board != nil {
			_ = f.board.Keep() // of the moment: what fails is written again
		}
		if e.Kind == provisioner.EventProgress { // gone with the moment
			f.lost += e.Missed
			continue
		}
		missed := e.Missed
		e.Missed += f.lost
		err := state.Events{Dir: f.dir}.Add(e)
		if err == nil {
			f.lost = 0
			continue
		}
		first := f.lost == 0
		f.lost += 1 + missed
		if first {
			failed(err)
		}
	}
}

// seqStep is the distance between the first numbers of two managers. A manager that dies may have told more events than
// came into the file, by no more than this; JSON's numbers are good for eight thousand million managers.
const seqStep = 1 << 20

// nextSeq is the number after which a new manager begins.
func (f *eventFile) nextSeq() uint64 {
	var last struct {
		Seq uint64 `json:"seq"`
	}
	if !(state.Events{Dir: f.dir}).Last(&last) {
		return 0
	}
	return (last.Seq/seqStep + 1) * seqStep
}

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
	file := eventFile{dir: f.state, board: f.board}
	f.since = file.nextSeq()
	f.feed.Continue(f.since)
	events := f.feed.Subscribe(context.Background())
	go func() {
		defer close(f.kept)
		file.keep(events, func(err error) {
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
	before, live := f.feed.Join(ctx) // first: what is not in the file yet, the feed has
	out := make(chan provisioner.Event)
	deliver := func(e provisioner.Event) bool {
		if e.Seq != 0 && e.Seq <= seq {
			return true
		}
		if e.Seq > f.since && seq >= f.since { // numbers of one manager follow each other
			e.Missed = int(e.Seq - seq - 1)
		}
		seq = max(seq, e.Seq)
		select {
		case out <- e:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(out)
		for e, err := range ReadEvents(ctx, f.state, false) {
			switch {
			case err != nil, e.Seq == 0: // what cannot be read is told by ReadEvents
			case len(before) > 0 && e.Seq >= before[0].Seq:
			case !deliver(e):
				return
			}
		}
		for _, e := range before {
			if !deliver(e) {
				return
			}
		}
		for e := range live {
			if !deliver(e) {
				return
			}
		}
	}()
	return out
}

// Snapshot returns where the replicas stand, as Status does, and the number of the last event that is certainly in it: what
// follows comes from EventsAfter that number.
func (f *Fleet) Snapshot() ([]provisioner.Status, uint64) {
	seq := f.feed.Last()
	return f.Status(), seq
}
