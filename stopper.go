package provisioner

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
)

// Stopper is the program that asked for a stop, for whoever reads what happened.
type Stopper struct {
	User    string `json:"user"` // the name, or the number where it has none
	PID     int    `json:"pid"`
	Command string `json:"command"` // such as "engine-provisioner stop"; other arguments, which may be secret, are left out
}

// String names it for people.
func (s Stopper) String() string { return fmt.Sprintf("%q of %s, pid %d", s.Command, s.User, s.PID) }

// subcommand is a first argument that only says what a program does.
var subcommand = regexp.MustCompile(`^[a-z]{1,16}$`)

// thisProgram is the program that this is.
func thisProgram() Stopper {
	s := Stopper{User: strconv.Itoa(os.Geteuid()), PID: os.Getpid(), Command: filepath.Base(os.Args[0])}
	if u, err := user.LookupId(s.User); err == nil {
		s.User = u.Username
	}
	if len(os.Args) > 1 && subcommand.MatchString(os.Args[1]) {
		s.Command += " " + os.Args[1]
	}
	return s
}

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

// setStopper says that another program has asked for the stop that follows; false when there is nothing to stop.
func (p *EngineProvisioner) setStopper(by *Stopper) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked || p.state.Final() {
		return false
	}
	p.by = by
	return true
}

func (p *EngineProvisioner) stopper() *Stopper {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.by
}
