package provisioner

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/local"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// endOrphans ends the engine of a replica whose record is gone or, if it is there, says that nothing runs: nobody could
// watch or stop it, and it has the port and the GPU. Its processes are those that hold the replica's lock, and carry the
// mark of the same launch as one of these, or as the handoff names. Whoever carries no mark is left alone. The result is
// empty when there was nothing to do.
func endOrphans(f state.Files, recorded bool) Recovered {
	begin := time.Now()
	found := Recovered{Replica: f.Stem, Reason: "it has no record"}
	if recorded {
		found.Reason = "it has outlived its launch"
	}
	var kept ReplicaID // what a manager remembers names the replica
	if err := f.ReadRestarts(&kept); err == nil && kept.stem() == f.Stem {
		found.Pool, found.Replica = kept.Pool, kept.Replica
	}
	held, launches, err := holders(f)
	if h, unread := ReadHandoff(f.Handoff()); unread == nil && !recorded {
		found.Pool, found.Replica = h.PoolID, h.ReplicaID
		if h.Process != nil && h.Process.LaunchID != "" {
			launches[h.Process.LaunchID] = true
		}
	}
	// Of a start that has begun meanwhile: a record is older than its processes.
	if rec, unread := readRecord(f); unread == nil && !rec.State.Final() {
		delete(launches, rec.LaunchID)
	}
	ended := 0
	for id := range launches {
		n, failed := local.EndOrphans(id, recoveryBudget)
		ended += n
		err = errors.Join(err, failed)
	}
	lost := !recorded && access.Exists(f.Handoff())
	if err == nil && held && len(launches) == 0 && !recorded {
		err = fmt.Errorf("%w: a start is under way, or a process that cannot be seen from here holds %q", ErrBusy, f.LockPath())
	}
	if err == nil && (ended > 0 || lost) {
		err = errors.Join(f.Unpublish(""), f.RemovePID())
	}
	switch {
	case err != nil:
		found.Result, found.Reason, found.Err = RecoveredUnknown, "", err
	case ended > 0:
		found.Result = RecoveredStopped
	case lost:
		found.Result = RecoveredGone
	default:
		return Recovered{}
	}
	found.Took = time.Since(begin)
	return found
}

// holders finds the launches whose processes hold the replica's lock.
func holders(f state.Files) (held bool, launches map[string]bool, err error) {
	launches = map[string]bool{}
	if !access.Exists(f.LockPath()) {
		return false, launches, nil
	}
	lock, err := f.Lock()
	if err == nil {
		lock.Release()
		return false, launches, nil
	}
	if !errors.Is(err, state.ErrHeld) {
		return false, launches, err
	}
	all, err := procfs.Holders(f.LockPath())
	if err != nil {
		return true, launches, fmt.Errorf("cannot list the processes: %w", err)
	}
	for _, s := range all {
		if id, marked := procfs.Env(s.PID, proc.MarkEnv); s.PID != os.Getpid() && marked && id != "" {
			launches[id] = true
		}
	}
	return true, launches, nil
}
