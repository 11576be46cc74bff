package fleet

import (
	"math/rand/v2"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/restart"
	"github.com/llama-orch/engine-provisioner/settings"
)

// waits reports whether the replica is to be started again at RetryAt.
func waits(s provisioner.Restarts) bool { return historyOf(s).Waits() }

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

// failed is the incident of an error.
func failed(err error) incident {
	i := provisioner.IncidentOf(err)
	return incident{
		Event: restart.Event{Kind: restart.Ended, Permanent: i.Permanent, Blameless: i.Blameless},
		text:  err.Error(), cause: i.Cause, err: err,
	}
}

// judged lets the policy judge an incident.
func judged(c settings.Restart, s provisioner.Restarts, e incident, now time.Time, random float64) (provisioner.Restarts, restart.Decision) {
	h, what := policy(c).Next(historyOf(s), e.Event, now, random)
	then := following(s, h)
	switch {
	case e.Kind == restart.Forgiven:
		then.Last, then.Cause = "", ""
	case what == restart.Wait || what == restart.GiveUp:
		then.Last, then.Cause = e.text, e.cause
	}
	return then, what
}

func policy(c settings.Restart) restart.Policy {
	return restart.Policy{
		Never: c.Mode == "never", InitialDelay: time.Duration(c.InitialDelay), MaxDelay: time.Duration(c.MaxDelay),
		StableAfter: time.Duration(c.StableAfter), StartBurst: c.StartBurst, Cooldown: time.Duration(c.Cooldown),
		CooldownMax: time.Duration(c.CooldownMax), GiveUpAfter: c.GiveUpAfter,
	}
}

// judge lets the restart policy decide, keeps the result on disk and tells of it. Only run calls it.
func (r *replica) judge(e incident) {
	before, cfg := r.history(), r.config()
	if e.Kind == restart.Forgiven || e.Kind == restart.Wanted {
		r.unhold()
	}
	past := before
	past.Served = r.served == decisive(cfg)
	now, what := judged(cfg.Restart, past, e, time.Now(), rand.Float64()) //nolint:gosec // jitter, not a secret
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
		r.tell(provisioner.Event{
			Time: time.Now().UTC(), Pool: cfg.PoolID, Replica: cfg.ReplicaID, LaunchID: launchID, Kind: provisioner.EventRestart,
			State: provisioner.StateFailed, Cause: now.Cause, Attempt: before.Attempts + 1, Message: e.text, Restarts: &now, Err: e.err,
		})
	}
}
