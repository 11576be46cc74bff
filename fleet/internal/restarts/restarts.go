// Package restarts owns what is remembered of a replica's failures, in its folder, for the next fleet and for other programs.
//
// Package fleet asks here, and who does its work where no fleet is there. Nothing here starts or stops an engine.
package restarts

import (
	"cmp"
	"os"
	"slices"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/board"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/holds"
	"github.com/llama-orch/engine-provisioner/internal/natural"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// Kept is what the fleet of a replica keeps on disk: for the next one, which otherwise would never open a
// breaker if it crashes together with its engines, and for "status" in any other program. Only the manager writes it.
type Kept struct {
	Pool     string              `json:"pool"`
	Replica  string              `json:"replica"`
	Engine   string              `json:"engine"`
	Outdated bool                `json:"outdated,omitempty"` // also for versions that know no Differs
	Differs  []report.Difference `json:"differs,omitempty"`
	// ServedSettings stands for the settings that were ready last.
	ServedSettings string `json:"served_settings,omitempty"`
	report.Restarts
}

// Read reads what is kept of a replica.
func Read(f state.Files) (Kept, error) {
	var kept Kept
	if err := f.ReadRestarts(&kept); err != nil {
		return Kept{}, err
	}
	return kept, nil
}

// Forgive forgets the failures, but not what was ready before them.
func Forgive(f state.Files, kept Kept) error {
	if kept.ServedSettings == "" && !f.Held() { // one that is held is still to be found by its name
		return os.Remove(f.Restarts())
	}
	kept.Restarts = report.Restarts{Phase: report.PhaseRunning, Total: kept.Total}
	return f.WriteRestarts(kept)
}

// Statuses is the status of every replica of a state directory, with what its manager remembers and tells, while there is one.
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
		all[at].Manager, all[at].Hold = posted.Manager.PID, holds.Of(files, time.Now())
	}
	slices.SortFunc(all, func(a, b provisioner.Status) int {
		return cmp.Or(natural.Compare(a.Pool, b.Pool), natural.Compare(a.Replica, b.Replica))
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
		kept, err := Read(state.In(dir, stem))
		if err == nil && !(policy.Waits(kept.Restarts) && time.Since(kept.RetryAt) > staleRetry) {
			p.Replicas = append(p.Replicas, board.Entry{ReplicaID: provisioner.ReplicaID{Pool: kept.Pool, Replica: kept.Replica}, Engine: kept.Engine})
		}
	}
	return p, nil
}

// addPosted adds what the replica's manager has posted, and remembers.
func addPosted(f state.Files, s *provisioner.Status, e board.Entry) {
	kept, err := Read(f)
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
