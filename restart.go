package provisioner

import (
	"errors"
	"math"
	"syscall"
	"time"
)

// RestartConfig says what a [Supervisor] does when an engine ends unasked or cannot be started. An exit that nobody
// asked for is a failure, whatever its code.
//
// Two budgets: failures before readiness burn minutes and GPU memory without serving anybody, so a breaker stops them;
// crashes after readiness are usually passing, and restarting them for ever serves more (reliability is simulated in a
// test: 49 % of the time served against 7 % with a breaker on crashes).
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

// restartFactor is by how much a delay grows; jitterShare by how much of itself a delay is lengthened at random, so that
// replicas that failed together do not load together.
const (
	restartFactor = 2
	jitterShare   = 0.25
)

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
	Phase    Phase     `json:"phase"`
	Attempts int       `json:"attempts"`           // failures since the replica was last stable
	Failures int       `json:"failures"`           // starts in a row that failed before readiness
	Hindered int       `json:"hindered,omitempty"` // starts in a row that failed for a reason that is not the engine's
	Trials   int       `json:"trials"`             // starts of the open breaker that failed
	Trial    bool      `json:"trial,omitempty"`    // the breaker is half open: this launch decides
	RetryAt  time.Time `json:"retry_at,omitzero"`  // of the next start, in backoff and open
	ReadyAt  time.Time `json:"ready_at,omitzero"`  // of the launch that runs
	Last     string    `json:"last,omitempty"`     // the last failure, for people
	Total    int       `json:"total"`              // restarts since the replica was supervised first
	Cause    Cause     `json:"cause,omitempty"`    // of the last failure
}

// waits reports whether the replica is to be started again at RetryAt.
func (s Restarts) waits() bool { return s.Phase == PhaseBackoff || s.Phase == PhaseOpen }

// happening is what a replica's restarts depend on.
type happening int

const (
	wanted      happening = iota // the replica shall run, by a new launch
	becameReady                  // its launch is ready
	ended                        // its launch ended, or could not be started
	due                          // time has passed
	unwanted                     // the replica shall not run
	forgiven                     // its failures are forgotten
)

// incident is one happening with what it takes to judge it.
type incident struct {
	what      happening
	permanent bool // trying again unchanged cannot help
	blameless bool // not the engine's fault (a busy port, a full disk, memory that others hold): tried again, and never given up
	cause     Cause
	text      string
	err       error
}

// incidentOf reads from an error what the restart policy needs.
func incidentOf(err error) incident {
	e := incident{what: ended, text: err.Error(), cause: causeOf(err), err: err}
	var failure *Failure
	var config *ConfigError
	var gpu *GPUError
	switch {
	case errors.As(err, &config), errors.As(err, &gpu):
		e.permanent = true
	case errors.As(err, &failure):
		e.permanent = !failure.Retry
	}
	for _, passing := range []error{ErrBusy, ErrNoMemory, errGPUBusy, syscall.ENOSPC, syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ETXTBSY} {
		if errors.Is(err, passing) {
			e.blameless, e.permanent = true, false
		}
	}
	return e
}

// decision is what follows.
type decision int

const (
	nothing decision = iota
	launchNow
	waitUntil // RetryAt
	giveUp
)

// next is the whole restart policy: a pure function of the past, what happened, and the time. random is from [0, 1).
func (c RestartConfig) next(s Restarts, e incident, now time.Time, random float64) (Restarts, decision) {
	switch e.what {
	case forgiven:
		s = Restarts{Phase: s.Phase, ReadyAt: s.ReadyAt, Total: s.Total}
		if s.Phase == PhaseRunning {
			return s, nothing
		}
		s.Phase = PhaseRunning
		return s, launchNow
	case wanted:
		s.Phase, s.RetryAt, s.ReadyAt = PhaseRunning, time.Time{}, time.Time{}
		return s, launchNow
	case unwanted:
		s.Phase, s.RetryAt, s.ReadyAt, s.Trial = PhaseStopped, time.Time{}, time.Time{}, false
		return s, nothing
	case becameReady:
		if s.Phase != PhaseRunning {
			return s, nothing
		}
		s.ReadyAt, s.Failures, s.Hindered = now, 0, 0
		return s, nothing
	case due:
		return c.pass(s, now)
	case ended:
		if s.Phase != PhaseRunning {
			return s, nothing
		}
		return c.fail(s, e, now, random)
	default:
		return s, nothing
	}
}

// pass is what the passing of time does: a stable engine's past is forgotten, a wait ends.
func (c RestartConfig) pass(s Restarts, now time.Time) (Restarts, decision) {
	switch {
	case s.Phase == PhaseRunning && !s.ReadyAt.IsZero() && now.Sub(s.ReadyAt) >= time.Duration(c.StableAfter):
		s.Attempts, s.Failures, s.Trials, s.Trial = 0, 0, 0, false
	case s.waits() && !now.Before(s.RetryAt):
		s.Trial = s.Trial || s.Phase == PhaseOpen
		s.Phase, s.RetryAt = PhaseRunning, time.Time{}
		return s, launchNow
	}
	return s, nothing
}

// fail judges the end of a launch.
func (c RestartConfig) fail(s Restarts, e incident, now time.Time, random float64) (Restarts, decision) {
	s, _ = c.pass(s, now) // it may have been stable before it ended
	wasReady := !s.ReadyAt.IsZero()
	s.ReadyAt, s.Last, s.Cause = time.Time{}, e.text, e.cause
	wait := func(phase Phase, delay time.Duration) (Restarts, decision) {
		s.Phase = phase
		s.RetryAt = now.Add(delay + time.Duration(random*jitterShare*float64(delay)))
		s.Total++
		return s, waitUntil
	}
	switch {
	case c.Mode == "never", e.permanent:
		s.Phase = PhaseFailed
		return s, giveUp
	case e.blameless:
		s.Hindered++
		return wait(PhaseBackoff, grow(c.InitialDelay, c.MaxDelay, s.Hindered-1))
	}
	s.Hindered = 0
	s.Attempts++
	if !wasReady {
		s.Failures++
	}
	switch {
	case s.Trial:
		s.Trials++
		if c.GiveUpAfter > 0 && s.Trials >= c.GiveUpAfter {
			s.Phase, s.Trial = PhaseFailed, false
			return s, giveUp
		}
		return wait(PhaseOpen, grow(c.Cooldown, c.CooldownMax, s.Trials))
	case s.Failures >= c.StartBurst:
		return wait(PhaseOpen, grow(c.Cooldown, c.CooldownMax, 0))
	}
	return wait(PhaseBackoff, grow(c.InitialDelay, c.MaxDelay, s.Attempts-1))
}

// grow is first, doubled times times, and at most limit.
func grow(first, limit Duration, times int) time.Duration {
	d := float64(first) * math.Pow(restartFactor, float64(times))
	return time.Duration(min(d, float64(max(first, limit))))
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
