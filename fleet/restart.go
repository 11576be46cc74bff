package fleet

import (
	"math/rand/v2"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/internal/restart"
)

// isReady reports whether the present launch is ready.
func (r *replica) isReady() bool { return policy.Ready(r.history()) }

// atRest reports whether nothing runs, nor will by itself.
func (r *replica) atRest() bool { return policy.AtRest(r.history()) || closed(r.done) }

// judge lets the restart policy decide, keeps the result on disk and tells of it. Only run calls it.
func (r *replica) judge(e policy.Incident) {
	before, cfg := r.history(), r.config()
	if e.Kind == restart.Forgiven || e.Kind == restart.Wanted {
		r.unhold()
	}
	past := before
	past.Served = r.served == policy.Decisive(cfg)
	now, what := policy.Judge(cfg.Restart, past, e, time.Now(), rand.Float64()) //nolint:gosec // jitter, not a secret
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
			r.last = e.Err
		}
		if r.launch != nil {
			launchID = r.launch.Status().LaunchID
		}
	})
	if what == restart.Wait || what == restart.GiveUp {
		r.tell(provisioner.Event{
			Time: time.Now().UTC(), Pool: cfg.PoolID, Replica: cfg.ReplicaID, LaunchID: launchID, Kind: provisioner.EventRestart,
			State: provisioner.StateFailed, Cause: now.Cause, Attempt: before.Attempts + 1, Message: e.Text, Restarts: &now, Err: e.Err,
		})
	}
}
