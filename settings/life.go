package settings

import (
	"cmp"
	"time"
)

// Ready says when a replica counts as ready.
type Ready struct {
	// Answer is "auto" or "off". With "auto" the engine must produce one token first; "off" leaves that proof out. Left
	// out, it is "auto".
	Answer string `json:"answer,omitempty" validate:"omitempty,oneof=auto off"`
	// Stall is how long a load may show no progress (log, CPU time, memory). Left out, it is 5 minutes.
	Stall Duration `json:"stall,omitempty" validate:"min=0"`
	// Timeout is how long a load may take altogether. Left out, it is 20 minutes.
	Timeout Duration `json:"timeout,omitempty" validate:"min=0"`
	// RequestTimeout bounds each probe. Left out, it is 5 seconds.
	RequestTimeout Duration `json:"request_timeout,omitempty" validate:"min=0"`
}

// WithDefaults fills in what was left out.
func (c Ready) WithDefaults() Ready {
	c.Answer = cmp.Or(c.Answer, "auto")
	// Ollama's, which large models on network disks live with.
	c.Stall = cmp.Or(c.Stall, Duration(5*time.Minute))
	c.Timeout = cmp.Or(c.Timeout, Duration(20*time.Minute))
	// SGLang's health costs a token and at least 1 s.
	c.RequestTimeout = cmp.Or(c.RequestTimeout, Duration(5*time.Second))
	return c
}

// Liveness says how a fleet notices that a ready engine cannot serve any more. One that gives no answer
// because it has too much to do is left alone: it is ended when it refuses, or when nothing of it moves.
type Liveness struct {
	// Period is the time between two questions to the health path. Left out, it is 10 seconds.
	Period Duration `json:"period,omitempty"`
	// Timeout bounds each. Left out, it is 5 seconds.
	Timeout Duration `json:"timeout,omitempty"`
	// Failures is how many refusals or errors in a row make the engine dead. Left out, it is 3.
	Failures int `json:"failures,omitempty" validate:"omitempty,min=1,max=100"`
	// WedgedAfter is how long nothing of an engine may move that has requests or gives no answer: no counter of its metrics, no
	// CPU time, no line of its log. Then it is asked for one token, and is dead if none comes. Left out, it is 2 minutes.
	WedgedAfter Duration `json:"wedged_after,omitempty"`
	// DiagnoseSignal is sent to a dead engine before it is stopped, so that it can write a stack dump to its log:
	// "SIGABRT" or "SIGQUIT". Left out, none is sent.
	DiagnoseSignal string `json:"diagnose_signal,omitempty" validate:"omitempty,oneof=SIGABRT SIGQUIT"`
	// TokenPeriod is how long an engine that is idle by its own gauges may go without a token before it is asked for one, which
	// finds what the health path hides: llama-server goes on saying 200 when its loop hangs. An engine that sleeps when it is
	// idle is not asked. Left out, it is 5 minutes where the engine's metrics have counters of tokens, and never elsewhere.
	TokenPeriod Duration `json:"token_period,omitempty"`
	// TokenTimeout bounds each question for a token. Left out, it is WedgedAfter, and at least 30 seconds.
	TokenTimeout Duration `json:"token_timeout,omitempty"`
}

// WithDefaults fills in what was left out.
func (c Liveness) WithDefaults() Liveness {
	if c.Period == 0 {
		c.Period = Duration(10 * time.Second)
	}
	if c.Timeout == 0 {
		c.Timeout = Duration(5 * time.Second)
	}
	if c.Failures == 0 {
		c.Failures = 3
	}
	if c.WedgedAfter == 0 {
		c.WedgedAfter = Duration(2 * time.Minute)
	}
	if c.TokenTimeout == 0 {
		c.TokenTimeout = max(Duration(30*time.Second), c.WedgedAfter)
	}
	return c
}

// Restart says what a fleet does when an engine ends unasked or cannot be started. An exit that nobody
// asked for is a failure, whatever its code.
//
// Failures before readiness open a breaker; crashes after it are tried again for ever. What trying again cannot help is
// given up at once, unless the replica has been ready with the same settings before.
type Restart struct {
	// Mode is "always" or "never". Left out, it is "always".
	Mode string `json:"mode,omitempty" validate:"omitempty,oneof=always never"`
	// InitialDelay is the time before the first restart; each further one waits twice as long. An engine that had been ready for
	// StableAfter does not wait the first time. Left out, it is 1 second.
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
	// OpenLimit is how long the breaker may be open before its last start, after which the replica is failed for good, too. A run
	// whose replicas have all failed ends with the cause's status, so that who watches the run sees it. Left out, it tries for ever.
	OpenLimit Duration `json:"open_limit,omitempty"`
}

// WithDefaults fills in what was left out.
func (c Restart) WithDefaults() Restart {
	def := Restart{
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
