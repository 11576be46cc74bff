package config

import "github.com/llama-orch/engine-provisioner/settings"

// times checks times by their keys.
func (k *Checker) times(prefix string, all ...limit) {
	for _, t := range all {
		k.Duration(prefix+t.key, t.value)
	}
}

type limit struct {
	key   string
	value settings.Duration
}

// Ready checks when a replica counts as ready.
func (k *Checker) Ready(prefix string, c settings.Ready) {
	k.times(prefix, limit{"stall", c.Stall}, limit{"timeout", c.Timeout}, limit{"request_timeout", c.RequestTimeout})
}

// Restart checks when a replica is started again.
func (k *Checker) Restart(prefix string, c settings.Restart) {
	k.times(prefix, limit{"initial_delay", c.InitialDelay}, limit{"max_delay", c.MaxDelay}, limit{"stable_after", c.StableAfter},
		limit{"cooldown", c.Cooldown}, limit{"cooldown_max", c.CooldownMax}, limit{"open_limit", c.OpenLimit})
}

// Stop checks how a replica is stopped.
func (k *Checker) Stop(prefix string, c settings.Stop, d settings.Drain) {
	k.times(prefix+"stop.", limit{"grace", c.Grace}, limit{"settle", c.Settle})
	if most := *d.WithDefaults().Timeout; c.Settle > most && c.Settle > 0 {
		k.Report(prefix+"stop.settle", "is %s, and the drain that it is a part of ends after %s; write a longer \"drain.timeout\"", c.Settle, most)
	}
}

// Liveness checks how a replica is watched.
func (k *Checker) Liveness(prefix string, c settings.Liveness) {
	k.times(prefix, limit{"period", c.Period}, limit{"timeout", c.Timeout}, limit{"wedged_after", c.WedgedAfter},
		limit{"token_period", c.TokenPeriod}, limit{"token_timeout", c.TokenTimeout})
}
