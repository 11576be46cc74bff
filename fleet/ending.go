package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/needs"
	"github.com/llama-orch/engine-provisioner/fleet/internal/outcome"
)

// Shutdown stops all engines at once, each as [provisioner.EngineProvisioner.Stop] does, and gives the state directory back:
// it is the end of the fleet. When ctx ends, that goes on without the caller. The error joins those of the replicas, but for
// ErrKilled where another is wrong. Another Shutdown waits for the first and returns the same. After Release the error is ErrReleased: the engines run on.
func (f *Fleet) Shutdown(ctx context.Context) error { return f.end(ctx, order{kind: orderEnd}) }

// KillAll is Shutdown without drain and grace. A stop that is under way, a reload's too, goes on so.
func (f *Fleet) KillAll(ctx context.Context) error {
	for _, r := range f.all() {
		r.forced.Store(true)
		r.hurry()
	}
	return f.end(ctx, order{kind: orderEnd, stop: atOnce()})
}

// Release gives the state directory back and lets the engines run on, for another Fleet to adopt: those that are ready,
// and those that load, of which the next one waits for the readiness. Nothing is stopped but what is to die with its manager
// (on_manager_exit: kill); a start that has not come to its process is called off. A stop that is under way is waited for.
// Releasing again returns the same; after Shutdown there is nothing to release, and the error is nil.
func (f *Fleet) Release() error {
	return f.end(context.Background(), order{kind: orderRelease})
}

// over is ErrStopped or ErrReleased from the first Stop or Release on; nil before it.
func (f *Fleet) over() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ending.over()
}

// end sends every replica its last order. Only the first call does; others wait for it.
func (f *Fleet) end(ctx context.Context, o order) error {
	f.mu.Lock()
	first := f.ending == nil
	if first {
		f.ending = &o
	}
	ending, replicas := f.ending.kind, f.replicas
	f.mu.Unlock()
	if first {
		go f.finish(replicas, o)
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return outcome.GoesOn(ctx, "the stop of all replicas")
	}
	switch {
	case o.kind == ending:
		return f.ended
	case ending == orderRelease:
		return provisioner.ErrReleased
	default:
		return nil
	}
}

// finish carries out the last order.
func (f *Fleet) finish(replicas []*replica, o order) {
	defer close(f.done)
	f.inbox.leave()
	f.ended = outcome.OfStops(dismiss(replicas, o))
	f.inbox.work.Wait()
	f.changing <- struct{}{} // a change that is under way is at work in the state directory, and about to see the end
	f.letGo()
	<-f.changing
}

// dismiss gives replicas their last order and returns what came of it, one error for each. One that has got its last
// order before is no failure.
//
// Those that others need end when these have. To be let go is no end.
func dismiss(replicas []*replica, o order) []error {
	errs := make([]error, len(replicas))
	waves := [][]*replica{replicas}
	if o.kind == orderEnd {
		waves = needs.Ends(replicas, func(r *replica) (string, []string) { return r.id.Pool, r.config().Needs })
	}
	for _, wave := range waves {
		var all sync.WaitGroup
		for _, r := range wave {
			all.Go(func() {
				if err := r.insist(context.Background(), o); !errors.Is(err, provisioner.ErrStopped) {
					errs[slices.Index(replicas, r)] = err
				}
				<-r.done
			})
		}
		all.Wait()
	}
	return errs
}

// keepPatience is how long the end of a fleet waits for the file of events: a disk can hang.
const keepPatience = 2 * time.Second

// letGo gives the state directory back, with all events in its file.
func (f *Fleet) letGo() {
	f.feed.Close()
	select {
	case <-f.kept:
	case <-time.After(keepPatience):
	}
	f.manager.Release()
}
