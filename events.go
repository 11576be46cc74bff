package provisioner

import "time"

// Event is something that happened to a launch.
type Event struct {
	Time     time.Time `json:"time"`
	Pool     string    `json:"pool"`
	Replica  string    `json:"replica"`
	LaunchID string    `json:"launch_id,omitempty"`
	Kind     EventKind `json:"event"`
	State    State     `json:"state"`
	PID      int       `json:"pid,omitempty"`
	Message  string    `json:"message,omitempty"`  // for people
	Handoff  *Handoff  `json:"handoff,omitempty"`  // with EventState and StateReady
	Restarts *Restarts `json:"restarts,omitempty"` // with EventRestart
	Err      error     `json:"-"`                  // with EventRestart: why the launch before ended
}

// EventKind says what kind of thing happened.
type EventKind string

// The kinds of events.
const (
	EventState    EventKind = "state"    // the launch changed its state
	EventNote     EventKind = "note"     // worth telling, changes nothing
	EventRestart  EventKind = "restart"  // a supervisor will start the replica again at Restarts.RetryAt, or has given it up
	EventRecovery EventKind = "recovery" // what a supervisor did about what an earlier one had left
)
