package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/caller"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// StopOptions are limits of one stop, instead of those that the launch was started with. The zero value leaves them.
type StopOptions struct {
	// DrainTimeout bounds the drain: its hooks, and the wait for requests in flight. nil means drain.timeout, 0 that nothing
	// is drained.
	DrainTimeout *time.Duration
	// Grace is the time between SIGTERM and SIGKILL, also before readiness. nil means stop.grace, 0 that SIGKILL follows at
	// once.
	Grace *time.Duration
	// By is another program that has asked for the stop, for whoever reads what happened; nil means this one.
	By *report.Stopper
}

// Validate says what is wrong with the limits.
func (o StopOptions) Validate() error {
	if o.DrainTimeout != nil && *o.DrainTimeout < 0 || o.Grace != nil && *o.Grace < 0 {
		return errors.New("cannot stop within a negative time; give 0 for no drain, or for no grace")
	}
	return nil
}

// atOnce are the limits of a kill.
func atOnce() StopOptions {
	return StopOptions{DrainTimeout: new(time.Duration), Grace: new(time.Duration)}
}

// stopWaiting says that a caller has stopped waiting for what goes on.
func stopWaiting(ctx context.Context, what string) error {
	return fmt.Errorf("no longer waiting for %s, which goes on: %w", what, context.Cause(ctx))
}

// Kill is Stop without drain and grace: SIGKILL follows SIGTERM at once. A stop that is under way goes on so. It returns
// what Stop returns.
func (p *EngineProvisioner) Kill(ctx context.Context) error {
	p.hurryOnce.Do(func() { close(p.hurry) })
	return p.StopWith(ctx, atOnce())
}

// StopWith is [EngineProvisioner.Stop] within limits of its own. Those of the first caller count; see Kill to cut a stop
// short.
func (p *EngineProvisioner) StopWith(ctx context.Context, limits StopOptions) error {
	if err := limits.Validate(); err != nil {
		return err
	}
	p.mu.Lock()
	first := p.claim(ErrStopped)
	if first {
		p.limits, p.by = limits, cmp.Or(limits.By, p.by)
	}
	p.mu.Unlock()
	stopped := make(chan error, 1)
	go func() {
		var err error
		if panicked := caught.Do(p.opts.logger, p.cfg.Name(), func() { err = p.stopAs(first) }); panicked != nil {
			err = panicked
		}
		stopped <- err
	}()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
		return stopWaiting(ctx, "the stop of "+p.cfg.Name())
	}
}

// stopAs is the stop of the first caller, or the wait of a later one for that.
func (p *EngineProvisioner) stopAs(first bool) error {
	p.starting.Lock() // a Start that is under way unwinds first
	p.mu.Lock()
	r, released := p.run, p.released
	if r == nil && !p.state.Final() {
		p.transition(StateStopped, "stopped before its start")
		close(p.done)
	}
	p.mu.Unlock()
	p.starting.Unlock()
	switch {
	case r == nil:
		return p.stopError()
	case first:
		return p.stop(r)
	case released: // it ends soon, and its engine lives on
		<-p.done
		return p.stopError()
	}
	select {
	case <-p.done:
	case <-p.stuck:
	case <-p.hurry:
	}
	return p.awaitDone(r)
}

// drainTimeout is the limit of a drain. It is called with mu held.
func (p *EngineProvisioner) drainTimeout() time.Duration {
	if d := p.limits.DrainTimeout; d != nil {
		return *d
	}
	return time.Duration(*p.cfg.Drain.Timeout)
}

// stopTimes are the limits of the drain, and of the grace of a launch that was ready or was not.
func (p *EngineProvisioner) stopTimes(r *run, ready bool) (drain, grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	grace = r.grace(ready)
	if g := p.limits.Grace; g != nil {
		grace = *g
	}
	return p.drainTimeout(), grace
}

// takeTurn waits for another program's stop of the launch, as a second Stop waits for the first: a second SIGTERM would
// end llama-server at once, with the requests that it was to finish. It waits no longer than a stop of its own would
// take. late is true when there is no drain left to be done by this one.
func (p *EngineProvisioner) takeTurn(r *run) (lock *state.Lock, late bool) {
	drain, grace := p.stopTimes(r, true)
	limit := time.NewTimer(drain + grace)
	defer limit.Stop()
	for {
		lock, err := state.TryLock(r.files.StopLock())
		if !errors.Is(err, state.ErrHeld) {
			return lock, false // without the lock, two may stop it at once, which ends it as well
		}
		select {
		case <-r.exited:
		case <-p.hurry:
		case <-limit.C:
		case <-time.After(20 * time.Millisecond):
			continue
		}
		return nil, true
	}
}

// beginStop writes down that the engine is to be gone, and removes the handoff. It reports whether a drain comes first.
func (p *EngineProvisioner) beginStop(r *run, late bool) (drains bool) {
	rec, err := readRecord(r.files) // another program's drain may be over
	late = late || err == nil && rec.LaunchID == r.rec.LaunchID && rec.Desired == desiredStopped && rec.State != StateDraining
	next := StateStopping
	p.mu.Lock()
	asked := !late && !closed(p.hurry)
	drains, early := asked && p.drains(), asked && p.mayServe()
	p.mu.Unlock()
	if early {
		p.mu.Lock()
		p.early = true
		p.mu.Unlock()
		p.recordStop(r, StateDraining) // a manager that reads it gives up its own questions
		drains = p.serves(r)
	}
	if drains {
		next = StateDraining
	}
	// The record first, then the handoff. Whoever finds no handoff must know why, also when this program dies in between;
	// and an engine that its own provisioner is just finding to be ready keeps none: that looks at the record again.
	p.recordStop(r, next)
	if p.byHand && state.Managed(r.files.State) {
		if err := r.files.Hold(); err != nil {
			p.note(err.Error())
		}
	}
	p.unpublish()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.Final() { // it has ended meanwhile
		return false
	}
	if p.state != next {
		p.transition(next, "")
	}
	return next == StateDraining
}

// recordStop writes down how far a stop is, for whoever goes on with it when this program dies. If the engine has ended,
// its watcher writes the last record, which must stay.
func (p *EngineProvisioner) recordStop(r *run, at State) {
	if closed(r.exited) {
		return
	}
	p.mu.Lock()
	how, early, limits := p.how(), p.early, p.limits
	p.mu.Unlock()
	rec := r.rec
	if limits.Grace != nil { // for whoever waits for this stop
		rec.Grace, rec.LoadGrace = settings.Duration(*limits.Grace), 0
	}
	rec.Desired, rec.State, rec.Stop = desiredStopped, at, &recordedStop{thisProgram(), how, early}
	if err := updateRecord(r.files, rec); err != nil {
		p.note("cannot record the stop: " + err.Error())
	}
}

// Running reports whether the engine runs and nobody in this program has begun to stop it or to let it go.
func (p *EngineProvisioner) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run != nil && !p.asked && !p.state.Final()
}

// thisProgram is the program that this is.
func thisProgram() report.Stopper { return report.Stopper(caller.This()) }

// recordedStop is what a record tells of the stop of its launch.
type recordedStop struct {
	By  report.Stopper `json:"by"`
	How string         `json:"how,omitempty"` // such as "drained in 2s", for people
	// Early says that the engine was not ready when it was to be stopped: its hooks are left out.
	Early bool `json:"early,omitempty"`
}

// stoppedBy says who has stopped a replica, as far as that is known, for people.
func stoppedBy(by *report.Stopper) string {
	if by == nil {
		return "stopped by another command"
	}
	return "stopped by another command: " + by.String()
}

var errStoppedElsewhere = fmt.Errorf("%w by another command", ErrStopped)

// stoppedElsewhere reports whether another provisioner has begun to stop the engine.
func (r *run) stoppedElsewhere() bool {
	rec, err := readRecord(r.files)
	return err == nil && rec.LaunchID == r.rec.LaunchID && rec.Desired == desiredStopped
}
