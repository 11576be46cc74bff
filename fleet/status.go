package fleet

import (
	"cmp"
	"context"
	"os"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/board"
	"github.com/llama-orch/engine-provisioner/fleet/internal/restarts"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/usage"
)

// status is where the replica stands now.
func (r *replica) status() provisioner.Status {
	r.mu.Lock()
	cfg, launch, past, outdated, held := r.cfg, r.launch, r.past, r.outdated, r.held
	r.mu.Unlock()
	s := provisioner.Status{Pool: cfg.PoolID, Replica: cfg.ReplicaID, Engine: cfg.Engine, State: provisioner.StateNew}
	switch {
	case launch != nil:
		s = launch.Status()
	case past.Phase == report.PhaseStopped:
		s.State = provisioner.StateStopped
	}
	s.Restarts, s.Outdated, s.Differs, s.Hold = &past, len(outdated) > 0, outdated, held
	s.Manager, s.Progress = os.Getpid(), r.fleet.board.Progress(cfg.ID())
	s.Model = cmp.Or(s.Model, cfg.Model.ID)
	return s
}

// post tells other programs which replicas the fleet looks after.
func (f *Fleet) post() {
	var entries []board.Entry
	for _, r := range f.all() {
		entries = append(entries, board.Of(r.config()))
	}
	if err := f.board.Post(entries); err != nil {
		f.log.Warn(err.Error())
	}
}

// Measure adds to each status what its launch takes and does, as m measures it, and how far a load is. The statuses are of the
// state directory that m is of, by [Statuses] or of a Fleet. Who shows rates measures with the same m again and again: of a
// launch's first measurement there are none. See [usage.Meter.Measure] for how long that takes, and the error.
func Measure(ctx context.Context, m *usage.Meter, all []provisioner.Status) error {
	return restarts.Measure(ctx, m, all)
}

// Statuses returns the status of every replica of a state directory ("" means .runtime), as [provisioner.Statuses] does, and what
// its manager remembers and tells, while there is one: also of replicas that have never got so far that they have a record, with
// the progress of those that are prepared. What they take and do is told by [Measure].
func Statuses(stateDir string, opts ...provisioner.Option) ([]provisioner.Status, error) {
	return restarts.Statuses(stateDir, opts...)
}
