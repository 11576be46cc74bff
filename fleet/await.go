package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/needs"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/report"
)

// waitReady returns when the replica is ready or not wanted any more, or with the failure that came first.
func (r *replica) waitReady(ctx context.Context) error {
	for {
		r.mu.Lock()
		past, last, lacking, leaving, changed, by := r.past, r.last, r.lacking, r.leaving || r.wasHeld || r.held != nil, r.changed, r.by
		r.mu.Unlock()
		switch {
		case leaving:
			return nil
		case past.Phase == report.PhaseRunning && !past.ReadyAt.IsZero():
			return lacking
		case last != nil:
			return last
		case past.Phase == report.PhaseStopped && by != nil:
			return fmt.Errorf("%s: %w before it was ready, by another command: %s", r.name, provisioner.ErrStopped, by)
		case past.Phase == report.PhaseStopped:
			return fmt.Errorf("%s: %w before it was ready", r.name, provisioner.ErrStopped)
		}
		select {
		case <-changed:
		case <-r.done:
			return fmt.Errorf("%s: %w", r.name, r.over)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// waitEnd returns when the replica was given up, with why, or stopped; ended is false when ctx ends first.
func (r *replica) waitEnd(ctx context.Context) (ended bool, err error) {
	for {
		r.mu.Lock()
		phase, last, held, changed := r.past.Phase, r.last, r.held, r.changed
		r.mu.Unlock()
		switch {
		case phase == report.PhaseFailed:
			return true, last
		case phase == report.PhaseStopped && held == nil: // a hold ends
			return true, nil
		}
		select {
		case <-changed:
		case <-r.done:
			return true, nil
		case <-ctx.Done():
			return false, nil
		}
	}
}

// stand is where the replica stands, for those that need it.
func (r *replica) stand() needs.Stand {
	now := r.status()
	r.mu.Lock()
	defer r.mu.Unlock()
	stand := needs.Stand{Since: now.StartedAt, Words: string(now.State), Changed: r.changed}
	if p := r.launch; p != nil && p.Running() && !now.State.Final() {
		stand.Launch, stand.Ready = now.LaunchID, policy.Ready(r.past)
	}
	return stand
}

// awaitNeeds returns when those are ready that launch p needs, or were when it began. lost gets the loss of one, until ctx ends.
func (r *replica) awaitNeeds(ctx context.Context, p *provisioner.EngineProvisioner, lost chan<- error) (err error) {
	pools, minds := r.config().Needs, r.config().OnLoss != "ignore"
	if len(pools) == 0 {
		return nil
	}
	var all []needs.Replica
	for _, other := range r.fleet.all() {
		if slices.Contains(pools, other.id.Pool) {
			all = append(all, needs.Replica{Name: other.name, Stand: other.stand})
		}
	}
	var with needs.Launches
	if now := p.Status(); now.State == provisioner.StateNew {
		with, err = needs.Await(ctx, all, func(name, words string) {
			r.tell(provisioner.Event{
				Time: time.Now().UTC(), Pool: r.id.Pool, Replica: r.id.Replica, Kind: provisioner.EventProgress, State: provisioner.StateNew,
				Progress: &report.Progress{Step: report.StepWait, What: name, Holder: words},
			})
		})
	} else if minds {
		with, err = needs.Found(all, now.StartedAt)
	}
	if err == nil && minds {
		go func() {
			if err := needs.Watch(ctx, all, with); err != nil {
				lost <- err
			}
		}()
	}
	return err
}
