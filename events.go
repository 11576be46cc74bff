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
	Message  string    `json:"message,omitempty"` // for people
	Handoff  *Handoff  `json:"handoff,omitempty"` // with EventState and StateReady
}

// EventKind says what kind of thing happened.
type EventKind string

// The kinds of events.
const (
	EventState EventKind = "state" // the launch changed its state
	EventNote  EventKind = "note"  // worth telling, changes nothing
)
