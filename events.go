package provisioner

import (
	"context"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// Event is something that happened to a launch. No event contains a secret.
type Event struct {
	Time time.Time `json:"time"`
	// Seq is the event's number in its state directory. Numbers grow, over managers as well, which leave a gap between them.
	// 0 says that it has none: a progress, or one that no fleet has told.
	Seq      uint64    `json:"seq,omitempty"`
	Pool     string    `json:"pool"`
	Replica  string    `json:"replica"`
	LaunchID string    `json:"launch_id,omitempty"`
	Kind     EventKind `json:"event"`
	State    State     `json:"state"`
	From     State     `json:"from,omitempty"` // with EventState: the state before
	// Took is, in seconds, with EventState how long the state before lasted, so that of a ready launch is its load; with
	// EventRecovery how long the recovery took.
	Took     float64          `json:"took,omitempty"`
	Attempt  int              `json:"attempt,omitempty"` // of a managed launch: 1, and 1 more for each failure since the replica was stable
	PID      int              `json:"pid,omitempty"`
	Cause    engine.Cause     `json:"cause,omitempty"`     // with StateFailed: why
	ExitCode *int             `json:"exit_code,omitempty"` // of an engine that ended, where it is known; -1 when a signal ended it
	Message  string           `json:"message,omitempty"`   // for people
	Handoff  *Handoff         `json:"handoff,omitempty"`   // with StateReady, of EventState and EventRecovery
	Recovery report.Recovery  `json:"recovery,omitempty"`  // with EventRecovery: what was done
	Restarts *report.Restarts `json:"restarts,omitempty"`  // with EventRestart; the next try is at its RetryAt
	Progress *report.Progress `json:"progress,omitempty"`  // with EventProgress
	Err      error            `json:"-"`                   // with EventRestart: why the launch before ended; with EventRecovery: a *GPUError, see WaitReady
	// StoppedBy is the other program that has asked for a stop, with the states from StateDraining on. Message tells how that
	// went.
	StoppedBy *report.Stopper `json:"stopped_by,omitempty"`
	// Hold says that the replica is held from now on, or still, with EventNote.
	Hold *hold.Hold `json:"hold,omitempty"`
	// Missed is how many events the reader has missed between the one before and this one, because it was too slow.
	Missed int `json:"missed,omitempty"`
}

// ID returns the replica's name; that of an event of the state directory as a whole is empty.
func (e Event) ID() ReplicaID { return ReplicaID{e.Pool, e.Replica} }

// EventKind says what kind of thing happened.
type EventKind string

// The kinds of events.
const (
	EventState    EventKind = "state"    // the launch changed its state
	EventNote     EventKind = "note"     // worth telling, changes nothing
	EventRestart  EventKind = "restart"  // a manager will start the replica again at Restarts.RetryAt, or has given it up
	EventRecovery EventKind = "recovery" // what a manager did about what an earlier one had left
	EventProgress EventKind = "progress" // how far a preparation is, a few times a second; these are not kept in the file of events
)

// listener is told how a preparation goes.
type listener interface {
	progress(now report.Progress)
	note(message string)
}

// acquiring tells a listener how an executable is got.
func acquiring(tell listener) acquire.Listener {
	return acquire.Listener{Note: tell.note, Progress: func(p acquire.Progress) {
		tell.progress(report.Progress{
			Step: report.Step(p.Step), What: p.What, Done: p.Done, Total: p.Total, Rate: p.Rate, Remaining: p.Remaining, Waiting: p.Waiting,
			Holder: p.Holder,
		})
	}}
}

// progress tells how far a preparation is.
func (p *EngineProvisioner) progress(now report.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.emit(Event{Kind: EventProgress, Progress: &now})
}

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
