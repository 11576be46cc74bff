package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/state"

	"github.com/llama-orch/engine-provisioner/internal/proc"
)

// Attach takes hold of a replica's engine that another provisioner has started, for Stop, Done and Status. It finds
// the engine by the record in the state directory ("" means .runtime) and makes sure that the process is the one that
// was recorded. When its main process is gone, the launch is over: a server that goes on gets SIGTERM and the grace period,
// workers are ended at once, and Done tells when.
//
// It returns ErrNotFound when there is no record; ErrNotRunning, after removing what the engine left, when the engine is
// gone; and ErrBusy when no process is seen but one holds the replica, such as a Start that is under way. What is not
// needed any more is stopped, or let go with Release. Only Linux can tell for sure that a process is still the one that
// was recorded; elsewhere Attach to a living engine returns errors.ErrUnsupported.
func Attach(stateDir string, id ReplicaID, opts ...Option) (*EngineProvisioner, error) {
	name, pool, replica := id.String(), id.Pool, id.Replica
	if !config.IsID(pool) || !config.IsID(replica) {
		return nil, fmt.Errorf("cannot attach to %q: %w: no replica can have this name", name, ErrNotFound)
	}
	files, err := filesOf(stateDir, id.stem())
	if err != nil {
		return nil, err
	}
	rec, err := readRecord(files)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: no record in %q", ErrNotFound, files.Dir())
	case err == nil && rec.Pool != pool: // "a-b/c" and "a/b-c" have the same files
		err = fmt.Errorf("%w: %q is of %s/%s", ErrNotFound, files.Record(), rec.Pool, rec.Replica)
	}
	var p *EngineProvisioner
	if err == nil {
		p, err = attach(context.Background(), files, rec, newOptions(opts))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot attach to %s: %w", name, err)
	}
	p.byHand, p.by = true, new(thisProgram())
	go p.watch(p.run)
	return p, nil
}

// attach takes hold of the engine of a record. What it returns has to be watched.
func attach(ctx context.Context, files state.Files, rec record, opts options) (*EngineProvisioner, error) {
	inst, err := opts.find(ctx, files, rec)
	if err != nil {
		return nil, err
	}
	r := &run{
		files: files, rec: rec, exited: make(chan struct{}), inst: inst, found: time.Now(), killTimeout: proc.KillPatience, leaveTime: defaultLeaveTime,
	}
	r.rec.refer(inst)
	r.started = r.rec.begun(time.Now())
	if inst.Exited() {
		members, err := inst.Members()
		if err == nil && len(members) == 0 {
			err = r.clearAway()
		}
		if err != nil {
			return nil, err
		}
	}
	cfg := ProvisionConfig{
		PoolID: rec.Pool, ReplicaID: rec.Replica, Engine: rec.Engine, Host: rec.Host, Port: rec.Port, StateDir: files.State,
		Model: ModelConfig{ID: rec.Model}, Dir: rec.Dir, Drain: rec.Drain, APIKey: rec.APIKey, Handoff: rec.Handoff,
	}
	p := newProvisioner(cfg.WithDefaults(), opts)
	p.run, p.state, p.since, p.found, p.withdrawn = r, StateStarting, r.started, true, rec.Withdrawn
	if h, err := ReadHandoff(files.Handoff()); err == nil && h.Process != nil && h.Process.LaunchID == rec.LaunchID {
		p.state, p.handoff, p.since = StateReady, h, h.ReadyAt
	} else if rec.State == StateDraining {
		p.state = StateDraining
		p.early = rec.Stop != nil && rec.Stop.Early
	}
	return p, nil
}

// begun is when the launch began. What is derived from it must not change when somebody sets the clock: a load that began
// before that would seem to have taken too long.
func (r record) begun(now time.Time) time.Time {
	if age, known := r.Process.Age(); known {
		return now.Add(-age)
	}
	if r.StartedAt.After(now) {
		return now
	}
	return r.StartedAt
}

// clearAway puts away what is left of a launch of which no process is seen, and returns ErrNotRunning.
func (r *run) clearAway() error {
	if r.rec.State.Final() {
		return ErrNotRunning
	}
	// A start that is under way has no process yet, and an engine in another container is not seen from here. Both hold
	// the lock, and what is theirs must stay.
	lock, err := r.files.Lock()
	if errors.Is(err, state.ErrHeld) {
		return fmt.Errorf("%w: a start is under way, or a process that cannot be seen from here holds %q", ErrBusy, r.files.LockPath())
	}
	if err != nil {
		return err
	}
	names, err := r.survivors() // the start may have come to its end before the lock was asked for
	lock.Release()
	if err != nil {
		return err
	}
	if names != "" {
		return fmt.Errorf("%w: it has just been started: %s; try again", ErrBusy, names)
	}
	if err := errors.Join(r.files.Unpublish(r.rec.LaunchID), r.finish(StateFailed, false).err); err != nil {
		return fmt.Errorf("the engine is gone, but not what it left: %w", err)
	}
	return ErrNotRunning
}
