// Package policy lets the rules of internal/restart judge what happens to a replica of a fleet, in the words of package
// provisioner. It remembers nothing and does nothing: its results are its caller's to carry out and to keep.
package policy

import (
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/cache"
	"github.com/llama-orch/engine-provisioner/internal/footprint"
	"github.com/llama-orch/engine-provisioner/internal/restart"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Waits reports whether the replica is to be started again at RetryAt.
func Waits(s report.Restarts) bool { return historyOf(s).Waits() }

// Ready reports whether the present launch is ready.
func Ready(s report.Restarts) bool { return s.Phase == report.PhaseRunning && !s.ReadyAt.IsZero() }

// AtRest reports whether nothing will run by itself.
func AtRest(s report.Restarts) bool {
	return s.Phase == report.PhaseFailed || s.Phase == report.PhaseStopped
}

func historyOf(s report.Restarts) restart.History {
	return restart.History{
		Phase: restart.Phase(s.Phase), Attempts: s.Attempts, Failures: s.Failures, Hindered: s.Hindered, Trials: s.Trials, Trial: s.Trial,
		RetryAt: s.RetryAt, OpenedAt: s.OpenedAt, ReadyAt: s.ReadyAt, Total: s.Total, Served: s.Served,
	}
}

// following is s after it has become h.
func following(s report.Restarts, h restart.History) report.Restarts {
	return report.Restarts{
		Phase: report.Phase(h.Phase), Attempts: h.Attempts, Failures: h.Failures, Hindered: h.Hindered, Trials: h.Trials, Trial: h.Trial,
		RetryAt: h.RetryAt, OpenedAt: h.OpenedAt, ReadyAt: h.ReadyAt, Last: s.Last, Total: h.Total, Cause: s.Cause, Advice: s.Advice, Served: h.Served,
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
func Judge(c settings.Restart, s report.Restarts, e Incident, now time.Time, random float64) (report.Restarts, restart.Decision) {
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
		CooldownMax: time.Duration(c.CooldownMax), GiveUpAfter: c.GiveUpAfter, OpenLimit: time.Duration(c.OpenLimit),
	}
}

// Decisive stands for all that decides on a launch before anything is looked at on the node. What only the provisioner acts on is
// left out.
func Decisive(c provisioner.ProvisionConfig) string {
	dir := c.Dir
	c.Restart, c.Liveness, c.Drain, c.Ready, c.Stop, c.Logs = settings.Restart{}, settings.Liveness{}, settings.Drain{}, settings.Ready{}, settings.Stop{}, settings.Logs{}
	c.Needs, c.OnLoss = nil, ""
	c.Fit, c.Expose, c.Handoff, c.Download = "", "", settings.Handoff{}, settings.Download{}
	return cache.Hash(c, dir)
}

// Todo is what new settings ask for.
type Todo int

// What there may be to do.
const (
	Nothing  Todo = iota // it has them
	Update               // the engine runs on under them
	Retry                // it does not run, and would be launched with the same again
	Relaunch             // another launch
)

// Weigh tells what settings ask of a launch that the present ones have made; alike is whether a launch would be the same, as far as
// that is told before anything is looked at on the node.
func Weigh(present, next provisioner.ProvisionConfig, outdated bool) (what Todo, alike bool) {
	what = Update
	if keys, err := footprint.Keys(present, next); err == nil && len(keys) == 0 && present.Dir == next.Dir && !outdated {
		what = Nothing
	}
	return what, Decisive(present) == Decisive(next)
}
