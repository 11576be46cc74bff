package provisioner

import (
	"errors"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Incident is what the end of a launch, or of the attempt at one, means for whoever may start another. Its zero value says
// that another may help.
type Incident struct {
	Cause engine.Cause
	// Permanent says that another launch with the same settings can only end the same way.
	Permanent bool
	// Blameless says that neither the engine nor its settings are at fault, such as when a port or memory is taken.
	Blameless bool
}

// IncidentOf reads it from the error of Start, of WaitReady, or of Err.
func IncidentOf(err error) Incident {
	i := Incident{Cause: causeOf(err)}
	var failure *Failure
	var config *ConfigError
	var device *GPUError
	switch {
	case errors.As(err, &config), errors.As(err, &device):
		i.Permanent = true
	case errors.As(err, &failure):
		i.Permanent = !failure.Retry
	}
	for _, passing := range []error{ErrBusy, ErrNoMemory, syscall.ENOSPC, syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ETXTBSY} {
		if errors.Is(err, passing) {
			i.Blameless, i.Permanent = true, false
		}
	}
	return i
}

// Phase is where a supervised replica stands between its launches.
type Phase string

// The phases of a supervised replica.
const (
	PhaseRunning Phase = "running" // a launch is being started, loads, or is ready
	PhaseBackoff Phase = "backoff" // waiting to be started again
	PhaseOpen    Phase = "open"    // the breaker is open: too many starts failed; one more is tried at RetryAt
	PhaseFailed  Phase = "failed"  // given up until Reset
	PhaseStopped Phase = "stopped" // stopped because somebody asked
)

// Restarts is what a supervisor remembers of a replica's failures. It survives the supervisor's own crash.
type Restarts struct {
	Phase    Phase        `json:"phase"`
	Attempts int          `json:"attempts"`           // failures since the replica was last stable
	Failures int          `json:"failures"`           // starts in a row that failed before readiness
	Hindered int          `json:"hindered,omitempty"` // starts in a row that failed for a reason that is not the engine's
	Trials   int          `json:"trials"`             // starts of the open breaker that failed
	Trial    bool         `json:"trial,omitempty"`    // the breaker is half open: this launch decides
	RetryAt  time.Time    `json:"retry_at,omitzero"`  // of the next start, in backoff and open
	ReadyAt  time.Time    `json:"ready_at,omitzero"`  // of the launch that runs
	Last     string       `json:"last,omitempty"`     // the last failure, for people
	Total    int          `json:"total"`              // restarts since the replica was supervised first
	Cause    engine.Cause `json:"cause,omitempty"`    // of the last failure
	// Served says that the replica has been ready with its present settings: nothing that it fails of is taken for hopeless.
	Served bool `json:"served,omitempty"`
}
