package fleet

import (
	"context"
	"fmt"

	provisioner "github.com/llama-orch/engine-provisioner"
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
