package fleet

import (
	"context"
	"errors"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/report"
)

// adopt makes an engine that runs already the present launch.
func (r *replica) adopt(ctx context.Context, p *provisioner.EngineProvisioner) {
	r.fleet.attempts.Store(r.cfg.ID(), r.past.Attempts+1)
	next, now := p.Settle(ctx, r.cfg)
	r.outdated, r.lacking = now.Differs, now.Lacks
	if r.held == nil {
		r.wasHeld = false
		r.forgetStop() // somebody has started it
	}
	r.takeUp(next)
}

// finish makes a launch the present one whose stop an earlier program did not finish.
func (r *replica) finish(p *provisioner.EngineProvisioner) {
	r.ending = p
	r.takeUp(p)
}

func (r *replica) takeUp(p *provisioner.EngineProvisioner) {
	r.launch = p
	r.past.Phase, r.past.RetryAt = report.PhaseRunning, time.Time{}
	r.stale = true
	r.keepStale()
}

// keepStopped keeps that somebody has stopped the replica, for the next fleet.
func (r *replica) keepStopped() {
	if err := r.files.Hold(); err != nil {
		r.log.Warn(err.Error(), "replica", r.name)
	}
}

// forgetStop forgets that somebody has stopped the replica.
func (r *replica) forgetStop() {
	if err := r.files.Unhold(); err != nil {
		r.log.Warn(err.Error(), "replica", r.name)
	}
}

// errStopFinished says that a stop that another program had begun is over.
var errStopFinished = errors.New("the stop by another program is over")

// finishStop does what is left of a stop whose program has died.
func finishStop(p *provisioner.EngineProvisioner) error {
	err := p.Stop(context.Background())
	if err == nil || errors.Is(err, provisioner.ErrKilled) || errors.Is(err, provisioner.ErrDrainAborted) && !errors.Is(err, provisioner.ErrUnkillable) {
		return errStopFinished
	}
	return err
}

// awaitStop waits as long as another command stops the replica's engine, which may drain it for minutes. If that command
// dies over it, its stop is finished. The error is errStopFinished when the replica was to be kept stopped.
func (r *replica) awaitStop(ctx context.Context, p *provisioner.EngineProvisioner) error {
	if !r.files.BeingStopped() {
		return nil
	}
	r.note("another command is stopping its engine; the start waits for that")
	for r.files.BeingStopped() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	found, err := r.fleet.manager.Recover(ctx, []provisioner.ReplicaID{r.config().ID()}, r.opts...)
	if err != nil {
		return err
	}
	for _, f := range found {
		switch {
		case f.Launch == nil:
		case f.Result == report.RecoveredStopped:
			if err := finishStop(f.Launch); !errors.Is(err, errStopFinished) {
				return err
			}
		default:
			f.Launch.Release() // somebody has started it: the start tells
		}
	}
	if r.files.Held() {
		return errStopFinished
	}
	return nil
}

// afterStop decides what follows when another program's stop is over: the replica stays stopped where that was said under a
// manager, and is started where it was said to nobody.
func (r *replica) afterStop(p *provisioner.EngineProvisioner) {
	if !p.Status().State.Final() { // it was not started
		_ = p.Stop(context.Background())
	}
	r.ending = nil
	if r.files.Held() {
		r.stoppedElsewhere()
	}
}
