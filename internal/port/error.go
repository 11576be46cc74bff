package port

import (
	"errors"
	"fmt"

	"github.com/llama-orch/engine-provisioner/engine"
)

// ErrBusy is wrapped by an [Error] about a port that somebody has.
var ErrBusy = errors.New("busy")

// Error says why an engine could not listen on a port.
type Error struct {
	Port engine.Port
	Problem
}

func (e *Error) Error() string {
	what := fmt.Sprintf("port %d", e.Port.Number)
	if e.Port.Use != "" {
		what += ", for " + e.Port.Use + ","
	}
	if e.Reason == Taken {
		return what + " is not free: " + e.Text
	}
	return "cannot listen on " + what + ": " + e.Text
}

// Unwrap tells what passes from what does not: a port is given back, an address or a right does not come by itself.
func (e *Error) Unwrap() error {
	if e.Reason == Taken {
		return ErrBusy
	}
	return e.Err
}

// Cause is the cause of a failed start for a reason.
func (r Reason) Cause() engine.Cause {
	switch r {
	case Taken:
		return engine.CausePortInUse
	case NoAddress:
		return engine.CauseBadAddress
	case Forbidden:
		return engine.CausePortForbidden
	}
	return ""
}
