package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/outcome"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
)

// Add takes on more replicas: their engines are adopted where they run, recovered as by [Open], and started else. It returns
// when they are being taken care of, which is before they are ready. The error is a *ConfigError, also where one cannot run
// beside those that are there, ErrStopped or ErrReleased when the fleet has ended, or ctx's cause; then none is taken on.
func (f *Fleet) Add(ctx context.Context, cfgs ...provisioner.ProvisionConfig) error {
	done, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	var present []provisioner.ProvisionConfig
	for _, r := range f.all() {
		present = append(present, r.config())
	}
	all, err := f.checked(slices.Concat(present, cfgs))
	if err != nil {
		return err
	}
	fresh := all[len(present):]
	ids := make([]provisioner.ReplicaID, len(fresh))
	for i, cfg := range fresh {
		ids[i] = cfg.ID()
	}
	if len(ids) == 0 {
		return nil
	}
	if err := f.over(); err != nil { // before anything is adopted
		return fmt.Errorf("cannot add replicas: the fleet: %w", err)
	}
	found, err := f.manager.Recover(ctx, ids, f.opts...)
	if err != nil {
		return err
	}
	return f.launch(f.takeOn(ctx, fresh, found), all)
}

// Remove stops a replica within these limits, as Stop does, and looks after it no more. When ctx ends, that goes on without
// the caller. The error is ErrNotFound, or that of the stop: the replica is removed all the same.
func (f *Fleet) Remove(ctx context.Context, id provisioner.ReplicaID, limits provisioner.StopOptions) error {
	if err := limits.Validate(); err != nil {
		return err
	}
	done, err := f.begin(ctx)
	if err != nil {
		return err
	}
	r, err := f.find(id)
	if err == nil {
		if over := f.over(); over != nil {
			err = fmt.Errorf("cannot remove %s: the fleet: %w", id, over)
		}
	}
	if err != nil {
		done()
		return err
	}
	removed := make(chan error, 1)
	go func() {
		defer done()
		removed <- f.removeThese([]*replica{r}, order{kind: orderEnd, stop: limits})[0].Err
	}()
	select {
	case err := <-removed:
		return err
	case <-ctx.Done():
		return outcome.GoesOn(ctx, "the removal of "+id.String())
	}
}

// remove ends the replicas that are not among cfgs, all at once: it is what their users were told to expect.
func (f *Fleet) remove(cfgs []provisioner.ProvisionConfig) []Reloaded {
	var gone []*replica
	for _, r := range f.all() {
		if !slices.ContainsFunc(cfgs, func(cfg provisioner.ProvisionConfig) bool { return cfg.Name() == r.name }) {
			gone = append(gone, r)
		}
	}
	return f.removeThese(gone, order{kind: orderEnd})
}

// removeThese ends replicas by their last order, and forgets them.
func (f *Fleet) removeThese(gone []*replica, o order) []Reloaded {
	for _, r := range gone {
		r.update(func() { r.leaving = true })
	}
	errs := dismiss(gone, o)
	f.mu.Lock()
	f.replicas = slices.DeleteFunc(slices.Clone(f.replicas), func(r *replica) bool { return slices.Contains(gone, r) })
	f.mu.Unlock()
	f.post()
	var results []Reloaded
	for i, r := range gone {
		cfg, err := r.config(), errs[i]
		result := Reloaded{Pool: cfg.PoolID, Replica: cfg.ReplicaID, Result: ReloadRemoved}
		if err != nil && !errors.Is(err, provisioner.ErrKilled) {
			result.Result, result.Err = ReloadFailed, fmt.Errorf("cannot remove %s in order: %w", r.name, err)
		}
		results = append(results, result)
		// Nobody tries it again.
		if err := errors.Join(atomicfile.Remove(r.files.Restarts()), r.files.Unhold()); err != nil {
			r.log.Warn("cannot forget the restarts", "replica", r.name, "error", err)
		}
		r.tell(provisioner.Event{
			Time: time.Now().UTC(), Pool: cfg.PoolID, Replica: cfg.ReplicaID, Kind: provisioner.EventNote, State: provisioner.StateStopped,
			Message: "it is not in the configuration any more: nobody looks after it",
		})
	}
	return results
}

// launch begins to look after more replicas, and puts all in the order of cfgs.
func (f *Fleet) launch(more []*replica, cfgs []provisioner.ProvisionConfig) error {
	err := f.take(more, cfgs)
	f.post()
	for _, r := range more {
		switch {
		case err == nil:
			go r.run()
		case r.launch != nil:
			r.launch.Release()
		}
	}
	return err
}

// take adds replicas, unless the fleet is ending.
func (f *Fleet) take(more []*replica, cfgs []provisioner.ProvisionConfig) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ending.over(); err != nil {
		return fmt.Errorf("cannot start more replicas: the fleet: %w", err)
	}
	place := map[string]int{}
	for i, cfg := range cfgs {
		place[cfg.Name()] = i
	}
	f.replicas = append(slices.Clone(f.replicas), more...)
	slices.SortStableFunc(f.replicas, func(a, b *replica) int { return place[a.name] - place[b.name] })
	return nil
}
