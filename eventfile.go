package provisioner

import (
	"context"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/state"
)

// endPatience bounds the wait for another program's word.
const endPatience = 2 * time.Second

// addEnd keeps how a launch ended that was stopped by a program which is no manager, unless it is told already: a manager
// that looks after the replica tells it, and is given the time.
func addEnd(dir string, e Event) error {
	told := func() bool {
		told, last := tellsEnd(dir, e.LaunchID)
		if e.Seq = last + 1; state.Managed(dir) { // which is about to give that number to another
			e.Seq = 0
		}
		return told
	}
	for deadline := time.Now().Add(endPatience); state.Managed(dir) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if told() {
			return nil
		}
	}
	return state.Events{Dir: dir}.AddUnless(&e, told)
}

// tellsEnd reports whether the end of a launch is among the events, and the number of the last one. What cannot be read
// tells nothing.
func tellsEnd(dir, launchID string) (told bool, last uint64) {
	for e, err := range state.ReadEvents[Event](context.Background(), dir, false) {
		if err != nil {
			continue
		}
		told = told || e.LaunchID == launchID && e.Kind == EventState && e.State.Final()
		last = max(last, e.Seq)
	}
	return told, last
}
