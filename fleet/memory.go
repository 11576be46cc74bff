package fleet

import (
	"fmt"
	"os"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/internal/restart"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// keptRestarts is what the fleet of a replica keeps on disk: for the next one, which otherwise would never open a
// breaker if it crashes together with its engines, and for "status" in any other program. Only the manager writes it.
type keptRestarts struct {
	Pool     string              `json:"pool"`
	Replica  string              `json:"replica"`
	Engine   string              `json:"engine"`
	Outdated bool                `json:"outdated,omitempty"` // also for versions that know no Differs
	Differs  []report.Difference `json:"differs,omitempty"`
	// ServedSettings stands for the settings that were ready last.
	ServedSettings string `json:"served_settings,omitempty"`
	report.Restarts
}

func readRestarts(f state.Files) (keptRestarts, error) {
	var kept keptRestarts
	if err := f.ReadRestarts(&kept); err != nil {
		return keptRestarts{}, err
	}
	return kept, nil
}

// forgive forgets the failures, but not what was ready before them.
func forgive(f state.Files, kept keptRestarts) error {
	if kept.ServedSettings == "" && !f.Held() { // one that is held is still to be found by its name
		return os.Remove(f.Restarts())
	}
	kept.Restarts = report.Restarts{Phase: report.PhaseRunning, Total: kept.Total}
	return f.WriteRestarts(kept)
}

// resume takes over what an earlier fleet kept, as far as it matters to one that is told to run the replica.
func (r *replica) resume(now time.Time) {
	kept, err := readRestarts(r.files) // whatever is wrong with it, the replica begins anew
	past := kept.Restarts
	r.served = kept.ServedSettings
	past.Served = r.served == policy.Decisive(r.cfg)
	r.wasHeld = r.files.Held()
	switch {
	case r.wasHeld:
		past.Phase, past.RetryAt, past.ReadyAt = report.PhaseStopped, time.Time{}, time.Time{}
	case !policy.Waits(past):
		past.Phase, past.ReadyAt = report.PhaseRunning, time.Time{}
	}
	// A clock that was set back must not make a wait longer than it can be, here or for who reads of it.
	if limit := now.Add(policy.Of(r.cfg.Restart).Longest(restart.Phase(past.Phase))); past.RetryAt.After(limit) {
		past.RetryAt = limit
	}
	r.past = past
	r.stale = (err == nil || r.wasHeld) && past != kept.Restarts // others read it, too
}

// keep keeps the replica's past for the next fleet and for other programs.
func (r *replica) keep(past report.Restarts) {
	cfg, differs := r.config(), r.differs()
	kept := keptRestarts{
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
	past, now := r.past, time.Now()
	e := provisioner.Event{
		Time: now.UTC(), Pool: r.cfg.PoolID, Replica: r.cfg.ReplicaID, Kind: provisioner.EventNote, State: provisioner.StateNew, Cause: past.Cause,
		Attempt: past.Attempts + 1,
	}
	wait := past.RetryAt.Sub(now).Round(100 * time.Millisecond)
	switch {
	case past.Phase == report.PhaseStopped:
		e.State, e.Cause = provisioner.StateStopped, ""
		e.Message = fmt.Sprintf("it was stopped by %s under an earlier manager, and stays so; reset it to start it (engine-provisioner reset %s)",
			r.files.HeldBy(), r.name)
	case policy.Waits(past) && wait > 0:
		e.Message = fmt.Sprintf("it failed under an earlier manager, and is started in %s", wait)
	default:
		return
	}
	r.tell(e)
}
