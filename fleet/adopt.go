package fleet

import (
	"context"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/report"
)

// adopt makes an engine that runs already the present launch.
func (r *replica) adopt(ctx context.Context, p *provisioner.EngineProvisioner) {
	r.fleet.attempts.Store(r.cfg.ID(), r.past.Attempts+1)
	next, now := p.Settle(ctx, r.cfg)
	r.outdated, r.lacking = now.Differs, now.Lacks
	r.wasHeld = false
	r.unhold() // somebody has started it
	r.takeUp(next)
}

// finish makes a launch the present one whose stop an earlier program did not finish.
func (r *replica) finish(p *provisioner.EngineProvisioner) {
	r.ending = p
	r.takeUp(p)
}

func (r *replica) takeUp(p *provisioner.EngineProvisioner) {
	r.launch = p
	r.past.Phase, r.past.RetryAt = report.PhaseRunning, time.Time{}
	r.stale = true
	r.keepStale()
}

// recoveryEvent tells of a recovery.
func recoveryEvent(f provisioner.Recovered) provisioner.Event {
	e := provisioner.Event{
		Time: time.Now().UTC(), Pool: f.Pool, Replica: f.Replica, Kind: provisioner.EventRecovery, Recovery: f.Result, PID: f.PID, Message: string(f.Result),
		Took: f.Took.Round(time.Microsecond).Seconds(),
	}
	switch {
	case f.Err != nil:
		e.Message += ": " + f.Err.Error()
	case f.Reason != "":
		e.Message += ": " + f.Reason
	}
	return e
}
