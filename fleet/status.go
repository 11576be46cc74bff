package fleet

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/board"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/usage"
)

// status is where the replica stands now.
func (r *replica) status() provisioner.Status {
	r.mu.Lock()
	cfg, launch, past, outdated := r.cfg, r.launch, r.past, r.outdated
	r.mu.Unlock()
	s := provisioner.Status{Pool: cfg.PoolID, Replica: cfg.ReplicaID, Engine: cfg.Engine, State: provisioner.StateNew}
	switch {
	case launch != nil:
		s = launch.Status()
	case past.Phase == report.PhaseStopped:
		s.State = provisioner.StateStopped
	}
	s.Restarts, s.Outdated, s.Differs = &past, len(outdated) > 0, outdated
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
	replicas := make([]usage.Replica, len(all))
	for i, s := range all {
		replicas[i] = usage.Replica{Pool: s.Pool, Replica: s.Replica}
	}
	measured, err := m.Measure(ctx, replicas)
	for i, u := range measured {
		if all[i].State.Final() {
			continue // what is left of it is about to be swept
		}
		if all[i].Usage = u; u != nil && u.Load != nil && all[i].State == provisioner.StateStarting {
			l := u.Load
			all[i].Progress = &report.Progress{Step: report.StepLoad, What: l.Model, Done: l.Done, Total: l.Total, Rate: l.Rate, Remaining: l.Remaining}
		}
	}
	return err
}

// Statuses returns the status of every replica of a state directory ("" means .runtime), as [provisioner.Statuses] does, and what
// its manager remembers and tells, while there is one: also of replicas that have never got so far that they have a record, with
// the progress of those that are prepared. What they take and do is told by [Measure].
func Statuses(stateDir string, opts ...provisioner.Option) ([]provisioner.Status, error) {
	all, failed := provisioner.Statuses(stateDir, opts...)
	dir, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	posted, err := lookedAfter(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range posted.Replicas {
		files := state.In(dir, state.Stem(e.Pool, e.Replica))
		at := slices.IndexFunc(all, func(s provisioner.Status) bool { return s.ID() == e.ReplicaID })
		switch {
		case at >= 0:
		case access.Exists(files.Record()): // it cannot be read, which is told
			continue
		default:
			all, at = append(all, provisioner.Status{Pool: e.Pool, Replica: e.Replica}), len(all)
		}
		addPosted(files, &all[at], e)
		all[at].Manager = posted.Manager.PID
	}
	slices.SortFunc(all, func(a, b provisioner.Status) int {
		return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.Replica, b.Replica))
	})
	return all, failed
}

// staleRetry is how long ago a next try must have been to be one that nobody makes: of a replica that the present
// fleet does not look after.
const staleRetry = time.Minute

// lookedAfter is what the manager has posted, or what it remembers if it is of a version that posts nothing; nothing without a
// manager.
func lookedAfter(dir string) (p board.Posted, err error) {
	p, ok := board.Read(dir)
	if ok || !state.Managed(dir) {
		return p, nil
	}
	stems, err := state.List(dir, state.RestartsName)
	if err != nil {
		return p, err
	}
	holder, _ := state.ReadNote(state.ManagerLock(dir))
	p.Manager = holder.Process
	for _, stem := range stems {
		kept, err := readRestarts(state.In(dir, stem))
		if err == nil && !(policy.Waits(kept.Restarts) && time.Since(kept.RetryAt) > staleRetry) {
			p.Replicas = append(p.Replicas, board.Entry{ReplicaID: provisioner.ReplicaID{Pool: kept.Pool, Replica: kept.Replica}, Engine: kept.Engine})
		}
	}
	return p, nil
}

// addPosted adds what the replica's manager has posted, and remembers.
func addPosted(f state.Files, s *provisioner.Status, e board.Entry) {
	kept, err := readRestarts(f)
	switch {
	case s.PID != 0:
		s.Outdated, s.Differs = kept.Outdated, kept.Differs
	case policy.Waits(kept.Restarts) || kept.Phase == report.PhaseFailed:
		s.State = provisioner.StateFailed
	case s.State != "" && !s.State.Final():
	case err != nil || kept.Phase == report.PhaseRunning && kept.ReadyAt.IsZero(): // the next launch has no record yet
		*s = provisioner.Status{Pool: e.Pool, Replica: e.Replica, State: provisioner.StatePreparing}
	case s.State == "":
		s.State = provisioner.StateStopped
	}
	if err == nil {
		s.Restarts = &kept.Restarts
	}
	s.Progress, s.Engine, s.Model = e.Progress, cmp.Or(s.Engine, e.Engine), cmp.Or(s.Model, e.Model)
}
