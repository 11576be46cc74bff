// Package restart decides whether and when an engine is started again. It is a pure function of the past, what happened,
// and the time.
//
// Two budgets: failures before readiness burn minutes and GPU memory without serving anybody, so a breaker stops them;
// crashes after readiness are usually passing, and restarting them for ever serves more (reliability is simulated in a
// test: 49 % of the time served against 7 % with a breaker on crashes).
package restart

import (
	"math"
	"time"
)

// Policy is the numbers to decide by. All but GiveUpAfter and OpenLimit are needed.
type Policy struct {
	Never        bool          // an engine that has ended is not started again
	InitialDelay time.Duration // before the first restart of an engine that was not stable; each further one waits longer
	MaxDelay     time.Duration
	StableAfter  time.Duration // how long an engine must be ready for its failures to be forgotten
	StartBurst   int           // starts in a row that fail before readiness until the breaker opens
	Cooldown     time.Duration // of an open breaker before its first try; each further one waits longer
	CooldownMax  time.Duration
	GiveUpAfter  int           // tries of an open breaker that fail until there are no more; 0: it tries for ever
	OpenLimit    time.Duration // how long a breaker may be open until its last try; 0: for ever
}

// factor is by how much a delay grows; jitterShare by how much of itself a delay is lengthened at random, so that replicas
// that failed together do not load together.
const (
	factor      = 2
	jitterShare = 0.25
)

// Phase is where a replica stands between its launches.
type Phase string

// The phases.
const (
	Running Phase = "running" // a launch is being started, loads, or is ready
	Backoff Phase = "backoff" // waiting to be started again
	Open    Phase = "open"    // the breaker is open: too many starts failed; one more is tried at RetryAt
	Failed  Phase = "failed"  // given up until somebody forgives
	Stopped Phase = "stopped" // stopped because somebody asked
)

// History is what is remembered of a replica's failures. The zero value is that of one that was never started.
type History struct {
	Phase    Phase
	Attempts int       // failures since the replica was last stable
	Failures int       // starts in a row that failed before readiness
	Hindered int       // starts in a row that failed for a reason that is not the engine's
	Trials   int       // starts of the open breaker that failed
	Trial    bool      // the breaker is half open: this launch decides
	RetryAt  time.Time // of the next start, in Backoff and Open
	OpenedAt time.Time // since when the breaker is open; zero when the replica has been ready since then
	ReadyAt  time.Time // of the launch that runs
	Total    int       // restarts since the replica was supervised first
	// Served says that the replica has been ready with the settings that it has: what it fails of now came later, and can
	// pass. The policy reads it and leaves it as it is.
	Served bool
}

// Waits reports whether the replica is to be started again at RetryAt.
func (h History) Waits() bool { return h.Phase == Backoff || h.Phase == Open }

// Kind is what can happen.
type Kind int

// The kinds of events.
const (
	Wanted      Kind = iota // the replica shall run, by a new launch
	BecameReady             // its launch is ready
	Ended                   // its launch ended, or could not be started
	Due                     // time has passed
	Unwanted                // the replica shall not run
	Forgiven                // its failures are forgotten
)

// Event is one happening with what it takes to judge it.
type Event struct {
	Kind      Kind
	Permanent bool // trying again unchanged cannot help, unless it has helped before
	Blameless bool // not the engine's fault (a busy port, a full disk, memory that others hold): tried again, and never given up
}

// Decision is what follows.
type Decision int

// The decisions.
const (
	Nothing Decision = iota
	Launch
	Wait // until RetryAt
	GiveUp
)

// Next is the whole policy. random is from [0, 1).
func (p Policy) Next(h History, e Event, now time.Time, random float64) (History, Decision) {
	switch e.Kind {
	case Forgiven:
		h = History{Phase: h.Phase, ReadyAt: h.ReadyAt, Total: h.Total, Served: h.Served}
		if h.Phase == Running {
			return h, Nothing
		}
		h.Phase = Running
		return h, Launch
	case Wanted:
		h.Phase, h.RetryAt, h.ReadyAt = Running, time.Time{}, time.Time{}
		return h, Launch
	case Unwanted:
		h.Phase, h.RetryAt, h.ReadyAt, h.Trial = Stopped, time.Time{}, time.Time{}, false
		return h, Nothing
	case BecameReady:
		if h.Phase != Running || !h.ReadyAt.IsZero() {
			return h, Nothing
		}
		h.ReadyAt, h.Failures, h.Hindered, h.OpenedAt = now, 0, 0, time.Time{}
		return h, Nothing
	case Due:
		return p.pass(h, now)
	case Ended:
		if h.Phase != Running {
			return h, Nothing
		}
		return p.fail(h, e, now, random)
	default:
		return h, Nothing
	}
}

// pass is what the passing of time does: a stable engine's past is forgotten, a wait ends.
func (p Policy) pass(h History, now time.Time) (History, Decision) {
	switch {
	case h.Phase == Running && !h.ReadyAt.IsZero() && now.Sub(h.ReadyAt) >= p.StableAfter:
		h.Attempts, h.Failures, h.Trials, h.Trial = 0, 0, 0, false
	case h.Waits() && !now.Before(h.RetryAt):
		h.Trial = h.Trial || h.Phase == Open
		h.Phase, h.RetryAt = Running, time.Time{}
		return h, Launch
	}
	return h, Nothing
}

// fail judges the end of a launch.
func (p Policy) fail(h History, e Event, now time.Time, random float64) (History, Decision) {
	h, _ = p.pass(h, now) // it may have been stable before it ended
	wasReady := !h.ReadyAt.IsZero()
	stable := wasReady && now.Sub(h.ReadyAt) >= p.StableAfter
	h.ReadyAt = time.Time{}
	wait := func(phase Phase, delay time.Duration) (History, Decision) {
		h.Phase = phase
		h.RetryAt = now.Add(delay + time.Duration(random*jitterShare*float64(delay)))
		h.Total++
		return h, Wait
	}
	switch {
	case p.Never, e.Permanent && !wasReady && !h.Served:
		h.Phase = Failed
		return h, GiveUp
	case e.Blameless:
		h.Hindered++
		return wait(Backoff, grow(p.InitialDelay, p.MaxDelay, h.Hindered-1))
	}
	h.Hindered = 0
	h.Attempts++
	if !wasReady {
		h.Failures++
	}
	open := func(trials int) (History, Decision) {
		if h.OpenedAt.IsZero() {
			h.OpenedAt = now
		}
		decided, what := wait(Open, grow(p.Cooldown, p.CooldownMax, trials))
		if last := h.OpenedAt.Add(p.OpenLimit); p.OpenLimit > 0 && last.Before(decided.RetryAt) {
			decided.RetryAt = last // one more before it is given up
		}
		return decided, what
	}
	switch {
	case stable: // which nobody can be for long who fails again and again; a wait would only be time in which nobody is served
		return wait(Backoff, 0)
	case h.Trial:
		h.Trials++
		if p.GiveUpAfter > 0 && h.Trials >= p.GiveUpAfter || p.expired(h, now) {
			h.Phase, h.Trial = Failed, false
			return h, GiveUp
		}
		return open(h.Trials)
	case h.Failures >= p.StartBurst:
		return open(0)
	}
	return wait(Backoff, grow(p.InitialDelay, p.MaxDelay, h.Attempts-1))
}

// expired reports whether the breaker has been open for as long as it may.
func (p Policy) expired(h History, now time.Time) bool {
	return p.OpenLimit > 0 && !h.OpenedAt.IsZero() && now.Sub(h.OpenedAt) >= p.OpenLimit
}

// Longest is the longest wait that there can be in a phase.
func (p Policy) Longest(phase Phase) time.Duration {
	first, limit := p.InitialDelay, p.MaxDelay
	if phase == Open {
		first, limit = p.Cooldown, p.CooldownMax
	}
	return time.Duration((1 + jitterShare) * float64(max(first, limit)))
}

// grow is first, multiplied times times, and at most limit.
func grow(first, limit time.Duration, times int) time.Duration {
	d := float64(first) * math.Pow(factor, float64(times))
	return time.Duration(min(d, float64(max(first, limit))))
}
