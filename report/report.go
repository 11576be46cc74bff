// Package report has what is told of launches and of the replicas that they are of: what a launch would run, how far its preparation
// is, by what it differs from a configuration, and what a manager remembers and has done. These are types without deeds, which
// encode to JSON: package provisioner fills them in for one launch, and package fleet for many.
package report

import (
	"fmt"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Phase is where a managed replica stands between its launches.
type Phase string

// The phases of a managed replica.
const (
	PhaseRunning Phase = "running" // a launch is being started, loads, or is ready
	PhaseBackoff Phase = "backoff" // waiting to be started again
	PhaseOpen    Phase = "open"    // the breaker is open: too many starts failed; one more is tried at RetryAt
	PhaseFailed  Phase = "failed"  // given up until Reset
	PhaseStopped Phase = "stopped" // stopped because somebody asked
)

// Restarts is what a manager remembers of a replica's failures. It survives the manager's own crash.
type Restarts struct {
	Phase    Phase        `json:"phase"`
	Attempts int          `json:"attempts"`           // failures since the replica was last stable
	Failures int          `json:"failures"`           // starts in a row that failed before readiness
	Hindered int          `json:"hindered,omitempty"` // starts in a row that failed for a reason that is not the engine's
	Trials   int          `json:"trials"`             // starts of the open breaker that failed
	Trial    bool         `json:"trial,omitempty"`    // the breaker is half open: this launch decides
	RetryAt  time.Time    `json:"retry_at,omitzero"`  // of the next start, in backoff and open
	OpenedAt time.Time    `json:"opened_at,omitzero"` // since when the breaker is open, without having been ready
	ReadyAt  time.Time    `json:"ready_at,omitzero"`  // of the launch that runs
	Last     string       `json:"last,omitempty"`     // the last failure, for people
	Total    int          `json:"total"`              // restarts since the replica was supervised first
	Cause    engine.Cause `json:"cause,omitempty"`    // of the last failure
	Advice   string       `json:"advice,omitempty"`   // what to do about it, for people
	// Served says that the replica has been ready with its present settings: nothing that it fails of is taken for hopeless.
	Served bool `json:"served,omitempty"`
}

// Incident is what the end of a launch, or of the attempt at one, means for whoever may start another. Its zero value says
// that another may help.
type Incident struct {
	Cause engine.Cause
	// Permanent says that another launch with the same settings can only end the same way.
	Permanent bool
	// Blameless says that neither the engine nor its settings are at fault, such as when a port or memory is taken.
	Blameless bool
	// Advice is what to do about it, for people; it may be empty.
	Advice string
}

// Recovery is what a recovery did about a replica.
type Recovery string

// The outcomes of a recovery.
const (
	RecoveredAdopted Recovery = "adopted" // the engine runs on, under this provisioner
	RecoveredStopped Recovery = "stopped" // it was ended: its stop was interrupted, only workers were left, or it has lost its port
	RecoveredLeft    Recovery = "left"    // another program is stopping it, and is left to that
	RecoveredGone    Recovery = "gone"    // it had died; what it left was put away
	RecoveredUnknown Recovery = "unknown" // it could not be dealt with; see Err
)

// Stopper is the program that asked for a stop, for whoever reads what happened.
type Stopper struct {
	User    string `json:"user"` // the name, or the number where it has none
	PID     int    `json:"pid"`
	Command string `json:"command"` // such as "engine-provisioner stop"; other arguments, which may be secret, are left out
}

// String names it for people.
func (s Stopper) String() string { return fmt.Sprintf("%q of %s, pid %d", s.Command, s.User, s.PID) }
