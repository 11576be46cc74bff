package feed

import (
	"context"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/board"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// File keeps the events of a state directory.
type File struct {
	Dir   string       // the state directory
	Board *board.Board // kept with the events; nil for none
	Lost  int          // events since the file could not be written
}

// Keep writes until events is closed. The first of several failures in a row is told to failed; the events that are
// lost meanwhile are counted in the next one that can be written.
func (f *File) Keep(events <-chan provisioner.Event, failed func(error)) {
	for e := range events {
		if f.Board != nil {
			_ = f.Board.Keep() // of the moment: what fails is written again
		}
		if e.Kind == provisioner.EventProgress { // gone with the moment
			f.Lost += e.Missed
			continue
		}
		missed := e.Missed
		e.Missed += f.Lost
		err := state.Events{Dir: f.Dir}.Add(e)
		if err == nil {
			f.Lost = 0
			continue
		}
		first := f.Lost == 0
		f.Lost += 1 + missed
		if first {
			failed(err)
		}
	}
}

// SeqStep is the distance between the first numbers of two managers. A manager that dies may have told more events than
// came into the file, by no more than this; JSON's numbers are good for eight thousand million managers.
const SeqStep = 1 << 20

// NextSeq is the number after which a new manager begins.
func (f *File) NextSeq() uint64 {
	var last struct {
		Seq uint64 `json:"seq"`
	}
	if !(state.Events{Dir: f.Dir}).Last(&last) {
		return 0
	}
	return (last.Seq/SeqStep + 1) * SeqStep
}

// After returns the events with larger numbers than seq: what the file has of them, and then what comes, without gap or double.
// Those of the present manager have larger numbers than since.
func (f *Feed) After(ctx context.Context, file File, seq, since uint64) <-chan provisioner.Event {
	before, live := f.Join(ctx) // first: what is not in the file yet, the feed has
	out := make(chan provisioner.Event)
	deliver := func(e provisioner.Event) bool {
		if e.Seq != 0 && e.Seq <= seq {
			return true
		}
		if e.Seq > since && seq >= since { // numbers of one manager follow each other
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
		for e, err := range state.ReadEvents[provisioner.Event](ctx, file.Dir, false) {
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
