package fleet

import (
	"math/rand/v2"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/outcome"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/fleet/internal/restarts"
	"github.com/llama-orch/engine-provisioner/internal/holds"
	"github.com/llama-orch/engine-provisioner/internal/restart"
	"github.com/llama-orch/engine-provisioner/report"
)

// resume takes over what an earlier fleet kept, as far as it matters to one that is told to run the replica.
func (r *replica) resume(now time.Time) {
	kept, err := restarts.Read(r.files) // whatever is wrong with it, the replica begins anew
	past := kept.Restarts
	r.served = kept.ServedSettings
	past.Served = r.served == policy.Decisive(r.cfg)
	r.held = holds.Of(r.files, now)
	r.wasHeld = r.files.Held()
	switch {
	case r.wasHeld, r.held != nil:
		past.Phase, past.RetryAt, past.ReadyAt = report.PhaseStopped, time.Time{}, time.Time{}
	case !policy.Waits(past):
		past.Phase, past.ReadyAt = report.PhaseRunning, time.Time{}
	}
	// A clock that was set back must not make a wait longer than it can be, here or for who reads of it.
	if limit := now.Add(policy.Of(r.cfg.Restart).Longest(restart.Phase(past.Phase))); past.RetryAt.After(limit) {
		past.RetryAt = limit
	}
	r.past = past
	r.stale = (err == nil || r.wasHeld || r.held != nil) && past != kept.Restarts // others read it, too
}

// keep keeps the replica's past for the next fleet and for other programs.
func (r *replica) keep(past report.Restarts) {
	cfg, differs := r.config(), r.differs()
	kept := restarts.Kept{
		Pool: cfg.PoolID, Replica: cfg.ReplicaID, Engine: cfg.Engine, Outdated: len(differs) > 0, Differs: differs,
		ServedSettings: r.served, Restarts: past,
	}
	if err := r.files.WriteRestarts(kept); err != nil {
		r.log.Warn("cannot keep the restarts", "replica", r.name, "error", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = true
}

// keepStale keeps the past of a replica that nobody looks after yet, where something else is on disk.
func (r *replica) keepStale() {
	if r.stale {
		r.keep(r.past)
		r.stale = false
	}
}

// announce tells of a wait that an earlier fleet began and this one goes on with, and of a stop: else nothing would be
// heard of the replica for half an hour, or for ever.
func (r *replica) announce() {
	if e, ok := outcome.OfStand(r.id, r.past, r.held, r.files.HeldBy, time.Now()); ok {
		r.tell(e)
	}
}

// isReady reports whether the present launch is ready.
func (r *replica) isReady() bool { return policy.Ready(r.history()) }

// atRest reports whether nothing runs, nor will by itself.
func (r *replica) atRest() bool { return policy.AtRest(r.history()) || closed(r.done) }

// judge lets the restart policy decide, keeps the result on disk and tells of it. Only run calls it.
func (r *replica) judge(e policy.Incident) {
	before, cfg := r.history(), r.config()
	if e.Kind == restart.Forgiven || e.Kind == restart.Wanted {
		r.forgetStop()
	}
	past := before
	past.Served = r.served == policy.Decisive(cfg)
	now, what := policy.Judge(cfg.Restart, past, e, time.Now(), rand.Float64()) //nolint:gosec // jitter, not a secret
	if now == before {
		return
	}
	// What stops with its fleet runs under the next one, which the file of one that ran says: another fsync tells nobody more.
	if !(r.ends && before.Phase == report.PhaseRunning) {
		r.keep(now)
	}
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
