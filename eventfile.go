package provisioner

import (
	"context"
	"iter"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/state"
)

// eventFile keeps the events of a state directory.
type eventFile struct {
	dir  string
	lost int // events since the file could not be written
}

// keep writes until events is closed. The first of several failures in a row is told to failed; the events that are
// lost meanwhile are counted in the next one that can be written.
func (f *eventFile) keep(events <-chan Event, failed func(error)) {
	for e := range events {
		if e.Kind == EventProgress { // gone with the moment
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

// endPatience bounds the wait for another program's word.
const endPatience = 2 * time.Second

// addEnd keeps how a launch ended that was stopped by a program which is no manager, unless it is told already: a manager
// that looks after the replica tells it, and is given the time.
func (f *eventFile) addEnd(e Event) error {
	told := func() bool {
		told, last := f.tellsEnd(e.LaunchID)
		if e.Seq = last + 1; state.Managed(f.dir) { // which is about to give that number to another
			e.Seq = 0
		}
		return told
	}
	for deadline := time.Now().Add(endPatience); state.Managed(f.dir) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if told() {
			return nil
		}
	}
	return state.Events{Dir: f.dir}.AddUnless(&e, told)
}

// tellsEnd reports whether the end of a launch is among the events, and the number of the last one. What cannot be read
// tells nothing.
func (f *eventFile) tellsEnd(launchID string) (told bool, last uint64) {
	for e, err := range ReadEvents(context.Background(), f.dir, false) {
		if err != nil {
			continue
		}
		told = told || e.LaunchID == launchID && e.Kind == EventState && e.State.Final()
		last = max(last, e.Seq)
	}
	return told, last
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

// ReadEvents returns the events that the supervisors of a state directory ("" means .runtime) have kept, oldest first: at
// least those of the last 1 MiB. With follow it goes on with what comes, from later supervisors, too, until ctx ends,
// which is no error. An error is about a line or an attempt to read; events may follow it.
func ReadEvents(ctx context.Context, stateDir string, follow bool) iter.Seq2[Event, error] {
	dir, err := state.Dir(stateDir)
	if err != nil {
		return func(yield func(Event, error) bool) { yield(Event{}, err) }
	}
	return state.ReadEvents[Event](ctx, dir, follow)
}
