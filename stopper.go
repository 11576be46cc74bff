package provisioner

import (
	"fmt"

	"github.com/llama-orch/engine-provisioner/internal/caller"
)

// Stopper is the program that asked for a stop, for whoever reads what happened.
type Stopper struct {
	User    string `json:"user"` // the name, or the number where it has none
	PID     int    `json:"pid"`
	Command string `json:"command"` // such as "engine-provisioner stop"; other arguments, which may be secret, are left out
}

// String names it for people.
func (s Stopper) String() string { return fmt.Sprintf("%q of %s, pid %d", s.Command, s.User, s.PID) }

// thisProgram is the program that this is.
func thisProgram() Stopper { return Stopper(caller.This()) }

// recordedStop is what a record tells of the stop of its launch.
type recordedStop struct {
	By  Stopper `json:"by"`
	How string  `json:"how,omitempty"` // such as "drained in 2s", for people
	// Early says that the engine was not ready when it was to be stopped: its hooks are left out.
	Early bool `json:"early,omitempty"`
}

// stoppedBy says who has stopped a replica, as far as that is known, for people.
func stoppedBy(by *Stopper) string {
	if by == nil {
		return "stopped by another command"
	}
	return "stopped by another command: " + by.String()
}
