package fleet

import (
	"cmp"
	"slices"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/state"
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
	case past.Phase == provisioner.PhaseStopped:
		s.State = provisioner.StateStopped
	}
	s.Restarts, s.Outdated, s.Differs = &past, len(outdated) > 0, outdated
	return s
}

// Statuses returns the status of every replica of a state directory ("" means .runtime), as [provisioner.Statuses] does, and what
// its manager remembers, while there is one: also of those that it has never got so far that they have a record.
func Statuses(stateDir string, opts ...provisioner.Option) ([]provisioner.Status, error) {
	all, failed := provisioner.Statuses(stateDir, opts...)
	dir, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	if !state.Managed(dir) {
		return all, failed
	}
	stems, err := state.List(dir, state.RestartsName)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for _, stem := range stems {
		files := state.In(dir, stem)
		i := slices.IndexFunc(all, func(s provisioner.Status) bool { return state.Stem(s.Pool, s.Replica) == stem })
		switch {
		case i >= 0:
			addRestarts(files, &all[i], now)
		case !access.Exists(files.Record()):
			var s provisioner.Status
			if addRestarts(files, &s, now); s.Pool != "" {
				all = append(all, s)
			}
		}
	}
	slices.SortFunc(all, func(a, b provisioner.Status) int {
		return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.Replica, b.Replica))
	})
	return all, failed
}

// staleRetry is how long ago a next try must have been to be one that nobody makes: of a replica that the present
// fleet does not look after.
const staleRetry = time.Minute

// addRestarts adds what the replica's fleet remembers.
func addRestarts(f state.Files, s *provisioner.Status, now time.Time) {
	kept, err := readRestarts(f)
	if err != nil || waits(kept.Restarts) && now.Sub(kept.RetryAt) > staleRetry {
		return // it was never supervised, or is not now
	}
	if s.PID == 0 && (waits(kept.Restarts) || kept.Phase == provisioner.PhaseFailed) {
		s.State = provisioner.StateFailed
		if s.Pool == "" { // it has no record
			s.Pool, s.Replica, s.Engine = kept.Pool, kept.Replica, kept.Engine
		}
	}
	s.Restarts = &kept.Restarts
	if s.PID != 0 {
		s.Outdated, s.Differs = kept.Outdated, kept.Differs
	}
}
