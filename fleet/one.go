package fleet

import (
	"context"
	"fmt"
	"slices"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Config returns the present configuration of a replica, with its defaults. The error is ErrNotFound.
func (f *Fleet) Config(id provisioner.ReplicaID) (provisioner.ProvisionConfig, error) {
	r, err := f.find(id)
	if err != nil {
		return provisioner.ProvisionConfig{}, err
	}
	return r.config(), nil
}

// Start starts a replica at once that was stopped or given up, or that waits for its next try, and forgets its failures. One
// that runs goes on. It returns when the start has been ordered, which a stop or reload that is under way delays; ctx bounds
// that. The error is ErrNotFound, ctx's cause, or ErrStopped or ErrReleased when the fleet has ended.
func (f *Fleet) Start(ctx context.Context, id provisioner.ReplicaID) error {
	return f.order(ctx, id, order{kind: orderStart})
}

// Reset forgets the failures of a replica, which starts it at once where it waits or was given up. One that was stopped stays
// so; see Start, also for the errors.
func (f *Fleet) Reset(ctx context.Context, id provisioner.ReplicaID) error {
	return f.order(ctx, id, order{kind: orderReset})
}

// Stop stops a replica's engine, as [provisioner.EngineProvisioner.StopWith] does, with the same errors, and leaves the
// replica so until Start or Reload, also under the next Fleet. When ctx ends, the stop goes on without the caller.
// ErrNotFound says that there is no such replica. Stopping one that is stopped already does nothing.
func (f *Fleet) Stop(ctx context.Context, id provisioner.ReplicaID, limits provisioner.StopOptions) error {
	if err := limits.Validate(); err != nil {
		return err
	}
	r, err := f.find(id)
	if err != nil {
		return err
	}
	return r.insist(ctx, order{kind: orderStop, stop: limits})
}

// Kill is Stop as [provisioner.EngineProvisioner.Kill] does it: a stop that is under way is cut short.
func (f *Fleet) Kill(ctx context.Context, id provisioner.ReplicaID) error {
	r, err := f.find(id)
	if err != nil {
		return err
	}
	r.hurry()
	return r.insist(ctx, order{kind: orderStop, stop: atOnce()})
}

// Restart stops a replica's engine, within these limits, and starts another with the same configuration; it returns when that
// is ready. As in Reload, what can be found out without a stop is found out first, and a ready replica is taken from its pool
// only while the others are ready. One that is stopped is started. When ctx ends, what was begun goes on without the caller.
func (f *Fleet) Restart(ctx context.Context, id provisioner.ReplicaID, limits provisioner.StopOptions) error {
	if err := limits.Validate(); err != nil {
		return err
	}
	r, err := f.find(id)
	if err != nil {
		return err
	}
	cfg := r.config()
	next, err := r.rehearse(ctx, cfg)
	if err != nil {
		return err
	}
	done, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := f.over(); err != nil {
		return fmt.Errorf("cannot restart %s: %w", r.name, err)
	}
	if err := f.awaitOthers(ctx, []*replica{r}, nil); err != nil {
		return err
	}
	return r.ask(ctx, order{kind: orderReload, cfg: cfg, next: next, firm: true, stop: limits})
}

// Drain takes a ready replica out of service, as [provisioner.EngineProvisioner.Drain] does: its handoff is removed, requests
// in flight are waited for, and the engine runs on, also under the next Fleet, until Resume. Another launch of it, as after a
// crash, is in service again. The error is ErrNotFound, ErrNotReady, or wraps ctx's cause, which ends the wait alone.
func (f *Fleet) Drain(ctx context.Context, id provisioner.ReplicaID) error {
	p, err := f.launched(id)
	if err != nil {
		return err
	}
	return p.Drain(ctx)
}

// Resume puts a replica into service again that Drain has taken out. The error is ErrNotFound or ErrNotReady.
func (f *Fleet) Resume(id provisioner.ReplicaID) error {
	p, err := f.launched(id)
	if err != nil {
		return err
	}
	return p.Resume()
}

// LogDir returns the folder of a replica's logs, which is there from its first launch on. The error is ErrNotFound.
func (f *Fleet) LogDir(id provisioner.ReplicaID) (string, error) {
	r, err := f.find(id)
	if err != nil {
		return "", err
	}
	return r.files.Logs(), nil
}

// StateDir returns the absolute path of the state directory.
func (f *Fleet) StateDir() string { return f.state }

// HandoffDir returns the folder of the handoffs, for [provisioner.WatchHandoffs].
func (f *Fleet) HandoffDir() string { return state.In(f.state, "").Handoffs() }

func (f *Fleet) find(id provisioner.ReplicaID) (*replica, error) {
	replicas := f.all()
	i := slices.IndexFunc(replicas, func(r *replica) bool { return r.id == id })
	if i < 0 {
		return nil, fmt.Errorf("%w: the fleet has no replica %s", provisioner.ErrNotFound, id)
	}
	return replicas[i], nil
}

// launched finds the present launch of a replica.
func (f *Fleet) launched(id provisioner.ReplicaID) (*provisioner.EngineProvisioner, error) {
	r, err := f.find(id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.launch == nil {
		return nil, fmt.Errorf("%s: %w", r.name, provisioner.ErrNotReady)
	}
	return r.launch, nil
}

func (f *Fleet) order(ctx context.Context, id provisioner.ReplicaID, o order) error {
	r, err := f.find(id)
	if err != nil {
		return err
	}
	return r.ask(ctx, o)
}
