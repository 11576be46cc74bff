package provisioner

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/state"
)

const eventsLockName = "events.lock"

const (
	// eventsPatience bounds the wait for another program's word.
	eventsPatience = 2 * time.Second
	// eventsLockPatience bounds that for the lock of the events, which is held while 16 MiB of them are read: tenths of a second,
	// and on a busy machine ten times that.
	eventsLockPatience = 30 * time.Second
)

// exclusively calls write while no other program writes events.
func (f *eventFile) exclusively(write func() error) error {
	lock, err := state.TakeLock(filepath.Join(f.dir, eventsLockName), eventsLockPatience)
	if err != nil {
		return fmt.Errorf("cannot keep events: %w", err)
	}
	defer lock.Release()
	return write()
}

// addEnd keeps how a launch ended that was stopped by a program which is no manager, unless it is told already: a manager
// that looks after the replica tells it, and is given the time.
func (f *eventFile) addEnd(e Event) error {
	for deadline := time.Now().Add(eventsPatience); state.Managed(f.dir) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if f.tellsEnd(e.LaunchID) {
			return nil
		}
	}
	return f.exclusively(func() error {
		if f.tellsEnd(e.LaunchID) {
			return nil
		}
		return f.append(e)
	})
}

// tellsEnd reports whether the end of a launch is among the events. What cannot be read tells nothing.
func (f *eventFile) tellsEnd(launchID string) bool {
	for e, err := range ReadEvents(context.Background(), f.dir, false) {
		if err == nil && e.LaunchID == launchID && e.Kind == EventState && e.State.Final() {
			return true
		}
	}
	return false
}
