// Package unmanaged owns what a manager does about its replicas for other programs, for where there is no manager: it becomes
// that for as long as it takes.
//
// Package fleet calls it when nobody is there to be asked. It starts no engine.
package unmanaged

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/restarts"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/holds"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Done is a replica with which something was done, or not, with why.
type Done struct {
	ID  provisioner.ReplicaID
	Err error
}

// Reset forgets the failures of replicas, or with none of all.
func Reset(dir string, replicas []string) ([]Done, error) {
	var manager *provisioner.Manager
	_, err := os.Stat(dir)
	if err == nil {
		manager, err = provisioner.Manage(dir)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(replicas) == 0:
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer manager.Release()
	stems, err := state.List(dir, state.RestartsName)
	if err != nil {
		return nil, err
	}
	var done []Done
	for _, stem := range stems {
		files := state.In(dir, stem)
		kept, err := restarts.Read(files)
		name := kept.Pool + "/" + kept.Replica
		if err != nil || len(replicas) > 0 && !slices.Contains(replicas, name) {
			continue
		}
		if len(replicas) > 0 {
			err = holds.Check(files, name)
		}
		if err == nil {
			err = restarts.Forgive(files, kept)
		}
		if err == nil && len(replicas) > 0 { // as a manager does it: one that was stopped is started only by its name
			err = files.Unhold()
		}
		if err != nil {
			return done, fmt.Errorf("cannot reset %s: %w", name, err)
		}
		done = append(done, Done{ID: provisioner.ReplicaID{Pool: kept.Pool, Replica: kept.Replica}})
	}
	for _, name := range replicas {
		if slices.ContainsFunc(done, func(d Done) bool { return d.ID.String() == name }) {
			continue
		}
		id, err := provisioner.ParseReplicaID(name)
		if err != nil || !hasRun(dir, id) {
			return done, fmt.Errorf("cannot reset %q: %w; the state directory has nothing of such a replica", name, provisioner.ErrNotFound)
		}
		done = append(done, Done{ID: id}) // it had no failures
	}
	return done, nil
}

// hasRun reports whether the state directory knows a replica.
func hasRun(dir string, id provisioner.ReplicaID) bool {
	all, _ := restarts.Statuses(dir) // what cannot be read of others does not matter
	return slices.ContainsFunc(all, func(s provisioner.Status) bool { return s.ID() == id })
}

// manageKnown takes the lock of the manager of a state directory, which has something of all these replicas.
func manageKnown(dir string, ids []provisioner.ReplicaID) (*provisioner.Manager, error) {
	for _, id := range ids {
		if files := filesIn(dir, id); !access.Exists(files.Record()) && !access.Exists(files.Restarts()) {
			return nil, fmt.Errorf("%w: the state directory has nothing of a replica %s", provisioner.ErrNotFound, id)
		}
	}
	return provisioner.Manage(dir)
}

func filesIn(dir string, id provisioner.ReplicaID) state.Files {
	return state.In(dir, state.Stem(id.Pool, id.Replica))
}

// Hold holds replicas, or with none all of them, and stops what runs of them. When ctx ends,
// the next manager does that.
func Hold(ctx context.Context, dir string, h hold.Hold, ids []provisioner.ReplicaID, opts []provisioner.Option) ([]Done, error) {
	manager, err := manageKnown(dir, ids)
	if err != nil {
		return nil, err
	}
	defer manager.Release()
	if h.Node = len(ids) == 0; h.Node {
		err = holds.PlaceAll(dir, h)
	}
	for _, id := range ids {
		err = errors.Join(err, holds.Place(filesIn(dir, id), h))
	}
	if err != nil {
		return nil, err
	}
	found, err := manager.Recover(ctx, ids, opts...)
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(found))
	var stops sync.WaitGroup
	for i, one := range found {
		if errs[i] = one.Err; one.Launch == nil {
			continue
		}
		stops.Go(func() {
			if err := one.Launch.Stop(ctx); err != nil && !errors.Is(err, provisioner.ErrKilled) {
				errs[i] = err
			}
		})
	}
	stops.Wait()
	var all []Done
	for i, one := range found {
		all = append(all, Done{one.ID(), errs[i]})
	}
	for _, id := range ids {
		if !slices.ContainsFunc(all, func(d Done) bool { return d.ID == id }) { // it did not run
			all = append(all, Done{ID: id})
		}
	}
	return all, nil
}

// Unhold ends the holds of replicas, or with none that of all.
func Unhold(dir string, ids []provisioner.ReplicaID) ([]Done, error) {
	manager, err := manageKnown(dir, ids)
	if err != nil {
		return nil, err
	}
	defer manager.Release()
	if len(ids) == 0 {
		return nil, holds.LiftAll(dir)
	}
	var all []Done
	for _, id := range ids {
		files := filesIn(dir, id)
		err := holds.Lift(files)
		if err == nil {
			err = holds.Check(files, id.String()) // the node may be held
		}
		all = append(all, Done{id, err})
	}
	return all, nil
}
