package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/caught"
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
	By *Stopper
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
