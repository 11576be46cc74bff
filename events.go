package provisioner

import (
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
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
	Took     float64      `json:"took,omitempty"`
	Attempt  int          `json:"attempt,omitempty"` // of a supervised launch: 1, and 1 more for each failure since the replica was stable
	PID      int          `json:"pid,omitempty"`
	Cause    engine.Cause `json:"cause,omitempty"`     // with StateFailed: why
	ExitCode *int         `json:"exit_code,omitempty"` // of an engine that ended, where it is known; -1 when a signal ended it
	Message  string       `json:"message,omitempty"`   // for people
	Handoff  *Handoff     `json:"handoff,omitempty"`   // with StateReady, of EventState and EventRecovery
	Recovery Recovery     `json:"recovery,omitempty"`  // with EventRecovery: what was done
	Restarts *Restarts    `json:"restarts,omitempty"`  // with EventRestart; the next try is at its RetryAt
	Progress *Progress    `json:"progress,omitempty"`  // with EventProgress
	Err      error        `json:"-"`                   // with EventRestart: why the launch before ended; with EventRecovery: a *GPUError, see WaitReady
	// StoppedBy is the other program that has asked for a stop, with the states from StateDraining on. Message tells how that
	// went.
	StoppedBy *Stopper `json:"stopped_by,omitempty"`
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
	EventRestart  EventKind = "restart"  // a supervisor will start the replica again at Restarts.RetryAt, or has given it up
	EventRecovery EventKind = "recovery" // what a supervisor did about what an earlier one had left
	EventProgress EventKind = "progress" // how far a preparation is, a few times a second; these are not kept in the file of events
)
