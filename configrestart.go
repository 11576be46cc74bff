package provisioner

import (
	"time"
)

// RestartConfig says what a fleet does when an engine ends unasked or cannot be started. An exit that nobody
// asked for is a failure, whatever its code.
//
// Failures before readiness open a breaker; crashes after it are tried again for ever. What trying again cannot help is
// given up at once, unless the replica has been ready with the same settings before.
type RestartConfig struct {
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
