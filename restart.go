package provisioner

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/restart"
)

// RestartConfig says what a [Supervisor] does when an engine ends unasked or cannot be started. An exit that nobody
// asked for is a failure, whatever its code.
//
// Failures before readiness open a breaker; crashes after it are tried again for ever. What trying again cannot help is
// given up at once, unless the replica has been ready with the same settings before.
type RestartConfig struct {
	// Mode is "always" or "never". Left out, it is "always".
	Mode string `json:"mode,omitempty" validate:"omitempty,oneof=always never"`
	// InitialDelay is the time before the first restart; each further one waits twice as long. Left out, it is 1 second:
	// sooner, and the driver may not have given back the GPU's memory.
	InitialDelay Duration `json:"initial_delay,omitempty"`
	// MaxDelay is the longest wait between restarts. Left out, it is 60 seconds.
	MaxDelay Duration `json:"max_delay,omitempty"`
	// StableAfter is how long an engine must be ready for its earlier failures to be forgotten. Left out, it is 5 minutes.
	StableAfter Duration `json:"stable_after,omitempty"`
	// StartBurst is how many starts in a row may fail before readiness until the breaker opens. Left out, it is 5.
	StartBurst int `json:"start_burst,omitempty" validate:"omitempty,min=1,max=1000"`
	// Cooldown is how long an open breaker waits before it tries one start; it doubles with each that fails. Left out, it
	// is 5 minutes.
	Cooldown Duration `json:"cooldown,omitempty"`
	// CooldownMax is the longest such wait. Left out, it is 30 minutes.
	CooldownMax Duration `json:"cooldown_max,omitempty"`
	// GiveUpAfter is how many starts of an open breaker may fail before the replica is failed for good, until Reset. Left
	// out, it tries for ever.
	GiveUpAfter int `json:"give_up_after,omitempty" validate:"omitempty,min=1,max=1000"`
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

// waits reports whether the replica is to be started again at RetryAt.
func (s Restarts) waits() bool { return s.history().Waits() }

func (s Restarts) history() restart.History {
	return restart.History{
		Phase: restart.Phase(s.Phase), Attempts: s.Attempts, Failures: s.Failures, Hindered: s.Hindered, Trials: s.Trials, Trial: s.Trial,
		RetryAt: s.RetryAt, ReadyAt: s.ReadyAt, Total: s.Total, Served: s.Served,
	}
}

// following is s after it has become h.
func (s Restarts) following(h restart.History) Restarts {
	return Restarts{
		Phase: Phase(h.Phase), Attempts: h.Attempts, Failures: h.Failures, Hindered: h.Hindered, Trials: h.Trials, Trial: h.Trial,
		RetryAt: h.RetryAt, ReadyAt: h.ReadyAt, Last: s.Last, Total: h.Total, Cause: s.Cause, Served: h.Served,
	}
}

// incident is an event for the restart policy with what people are told of it.
type incident struct {
	restart.Event
	cause engine.Cause
	text  string
	err   error
}

func happened(kind restart.Kind) incident { return incident{Event: restart.Event{Kind: kind}} }

// incidentOf reads from an error what the restart policy needs.
func incidentOf(err error) incident {
	e := incident{Event: restart.Event{Kind: restart.Ended}, text: err.Error(), cause: causeOf(err), err: err}
	var failure *Failure
	var config *ConfigError
	var device *GPUError
	switch {
	case errors.As(err, &config), errors.As(err, &device):
		e.Permanent = true
	case errors.As(err, &failure):
		e.Permanent = !failure.Retry
	}
	for _, passing := range []error{ErrBusy, ErrNoMemory, syscall.ENOSPC, syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ETXTBSY} {
		if errors.Is(err, passing) {
			e.Blameless, e.Permanent = true, false
		}
	}
	return e
}

// next lets the policy judge an incident.
func (c RestartConfig) next(s Restarts, e incident, now time.Time, random float64) (Restarts, restart.Decision) {
	h, what := c.policy().Next(s.history(), e.Event, now, random)
	next := s.following(h)
	switch {
	case e.Kind == restart.Forgiven:
		next.Last, next.Cause = "", ""
	case what == restart.Wait || what == restart.GiveUp:
		next.Last, next.Cause = e.text, e.cause
	}
	return next, what
}

func (c RestartConfig) policy() restart.Policy {
	return restart.Policy{
		Never: c.Mode == "never", InitialDelay: time.Duration(c.InitialDelay), MaxDelay: time.Duration(c.MaxDelay),
		StableAfter: time.Duration(c.StableAfter), StartBurst: c.StartBurst, Cooldown: time.Duration(c.Cooldown),
		CooldownMax: time.Duration(c.CooldownMax), GiveUpAfter: c.GiveUpAfter,
	}
}

func (c RestartConfig) withDefaults() RestartConfig {
	def := RestartConfig{
		Mode: "always", InitialDelay: Duration(time.Second), MaxDelay: Duration(time.Minute), StableAfter: Duration(5 * time.Minute),
		StartBurst: 5, Cooldown: Duration(5 * time.Minute), CooldownMax: Duration(30 * time.Minute),
	}
	fill := func(d *Duration, with Duration) {
		if *d == 0 {
			*d = with
		}
	}
	if c.Mode == "" {
		c.Mode = def.Mode
	}
	if c.StartBurst == 0 {
		c.StartBurst = def.StartBurst
	}
	fill(&c.InitialDelay, def.InitialDelay)
	fill(&c.MaxDelay, def.MaxDelay)
	fill(&c.StableAfter, def.StableAfter)
	fill(&c.Cooldown, def.Cooldown)
	fill(&c.CooldownMax, def.CooldownMax)
	return c
}

// judge lets the restart policy decide, keeps the result on disk and tells of it. Only run calls it.
func (r *replica) judge(e incident) {
	before, cfg := r.history(), r.config()
	if e.Kind == restart.Forgiven || e.Kind == restart.Wanted {
		r.unhold()
	}
	past := before
	past.Served = r.served == cfg.settings()
	now, what := cfg.Restart.next(past, e, time.Now(), rand.Float64()) //nolint:gosec // jitter, not a secret
	if now == before {
		return
	}
	r.keep(now)
	launchID := ""
	r.update(func() {
		r.past = now
		switch e.Kind {
		case restart.Forgiven, restart.Wanted:
			r.last, r.wasHeld = nil, false
		case restart.BecameReady:
			r.last = nil
		case restart.Ended: // with what follows from it, so that nobody sees the one without the other
			r.last = e.err
		}
		if r.launch != nil {
			launchID = r.launch.Status().LaunchID
		}
	})
	if what == restart.Wait || what == restart.GiveUp {
		r.tell(Event{
			Time: time.Now().UTC(), Pool: cfg.PoolID, Replica: cfg.ReplicaID, LaunchID: launchID, Kind: EventRestart,
			State: StateFailed, Cause: now.Cause, Attempt: before.Attempts + 1, Message: e.text, Restarts: &now, Err: e.err,
		})
	}
}
