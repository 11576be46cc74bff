package provisioner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Manager is this program's hold of a state directory, of which one program at a time is the manager: the one that recovers
// what others left there, and starts what has failed. Other programs go on to start, stop and look at launches. It holds until
// Release or the program's end. Its methods are safe for concurrent use.
type Manager struct {
	dir string

	mu   sync.Mutex
	lock *state.Lock
}

// Manage makes this program the manager of a state directory ("" means .runtime), which is made where it is missing. The
// error is a *LockedError when another one does not let go of it within 2 seconds.
func Manage(stateDir string) (*Manager, error) {
	dir, err := state.Dir(stateDir)
	if err == nil {
		err = state.Create(dir)
	}
	if err != nil {
		return nil, err
	}
	l, holder, err := state.TakeManager(dir)
	if errors.Is(err, state.ErrHeld) {
		return nil, &LockedError{StateDir: dir, PID: holder.Process.PID, Host: holder.Host}
	}
	if err != nil {
		return nil, err
	}
	return &Manager{dir: dir, lock: l}, nil
}

// StateDir returns the absolute path of the state directory.
func (m *Manager) StateDir() string { return m.dir }

// Release gives the state directory back.
func (m *Manager) Release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lock.Release()
}

// Keep makes this program the manager again where somebody has removed the lock's file, as with the whole directory; again
// says that it was so. Until then no other program becomes the manager. It is called about once a second, since another
// one may get in that cannot look at this program's open files.
func (m *Manager) Keep() (again bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := state.ManagerLock(m.dir)
	if m.lock.At(path) {
		return false, nil
	}
	if err := state.Create(m.dir); err != nil {
		return true, err
	}
	lock, err := state.TakeLock(path, 250*time.Millisecond) // another manager may be finding out that it is too late
	if errors.Is(err, state.ErrHeld) {
		n, _ := state.ReadNote(path)
		return true, fmt.Errorf("two managers: %s has taken %q after somebody removed its lock; stop one of them", n, m.dir)
	}
	if err != nil {
		return true, err
	}
	lock.SignFor(m.dir)
	m.lock.Release()
	m.lock = lock
	return true, nil
}

// Recover puts in order what an earlier program left of these replicas, or of all, as the function [Recover] does, but for
// interrupted stops, which take as long as a drain: of those, Launch is still to be stopped. The adopted launches are this
// program's from now on; see [EngineProvisioner.Settle]. When ctx ends, all engines are left as they are, and the error is
// ctx's cause.
func (m *Manager) Recover(ctx context.Context, replicas []ReplicaID, opts ...Option) ([]Recovered, error) {
	stems := make([]string, len(replicas))
	for i, id := range replicas {
		stems[i] = id.stem()
	}
	if replicas == nil {
		recorded, err := state.List(m.dir, state.RecordName)
		if err != nil {
			return nil, err
		}
		more, err := state.Unrecorded(m.dir)
		if err != nil {
			return nil, err
		}
		stems = slices.Compact(slices.Sorted(slices.Values(append(recorded, more...))))
	}
	return recoverEach(ctx, m.dir, stems, newOptions(opts))
}
