// Package policy lets the rules of internal/restart judge what happens to a replica of a fleet, in the words of package
// provisioner. It remembers nothing and does nothing: its results are its caller's to carry out and to keep.
package policy

import (
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/restart"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Waits reports whether the replica is to be started again at RetryAt.
func Waits(s provisioner.Restarts) bool { return historyOf(s).Waits() }

func historyOf(s provisioner.Restarts) restart.History {
	return restart.History{
		Phase: restart.Phase(s.Phase), Attempts: s.Attempts, Failures: s.Failures, Hindered: s.Hindered, Trials: s.Trials, Trial: s.Trial,
		RetryAt: s.RetryAt, ReadyAt: s.ReadyAt, Total: s.Total, Served: s.Served,
	}
}

// following is s after it has become h.
func following(s provisioner.Restarts, h restart.History) provisioner.Restarts {
	return provisioner.Restarts{
		Phase: provisioner.Phase(h.Phase), Attempts: h.Attempts, Failures: h.Failures, Hindered: h.Hindered, Trials: h.Trials, Trial: h.Trial,
		RetryAt: h.RetryAt, ReadyAt: h.ReadyAt, Last: s.Last, Total: h.Total, Cause: s.Cause, Advice: s.Advice, Served: h.Served,
	}
}

// Incident is an event for the restart policy with what people are told of it.
type Incident struct {
	restart.Event
	Cause  engine.Cause
	Advice string
	Text   string
	Err    error
}

// Happened is an incident of which there is no more to tell.
func Happened(kind restart.Kind) Incident { return Incident{Event: restart.Event{Kind: kind}} }

// Failed is the incident of an error.
func Failed(err error) Incident {
	i := provisioner.IncidentOf(err)
	return Incident{
		Event: restart.Event{Kind: restart.Ended, Permanent: i.Permanent, Blameless: i.Blameless},
		Text:  err.Error(), Cause: i.Cause, Advice: i.Advice, Err: err,
	}
}

// Judge lets the policy judge an incident.
func Judge(c settings.Restart, s provisioner.Restarts, e Incident, now time.Time, random float64) (provisioner.Restarts, restart.Decision) {
	h, what := Of(c).Next(historyOf(s), e.Event, now, random)
	then := following(s, h)
	switch {
	case e.Kind == restart.Forgiven:
		then.Last, then.Cause, then.Advice = "", "", ""
	case what == restart.Wait || what == restart.GiveUp:
		then.Last, then.Cause, then.Advice = e.Text, e.Cause, e.Advice
	}
	return then, what
}

// Of is the policy of a configuration.
func Of(c settings.Restart) restart.Policy {
	return restart.Policy{
		Never: c.Mode == "never", InitialDelay: time.Duration(c.InitialDelay), MaxDelay: time.Duration(c.MaxDelay),
		StableAfter: time.Duration(c.StableAfter), StartBurst: c.StartBurst, Cooldown: time.Duration(c.Cooldown),
		CooldownMax: time.Duration(c.CooldownMax), GiveUpAfter: c.GiveUpAfter,
	}
}
