package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/drain"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/hook"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/settings"
)

// errUncounted says that requests in flight cannot be waited for.
var errUncounted = errors.New("the engine's metrics are off, or do not count them")

// endedDraining is the message of a stop whose engine did not wait for its SIGTERM.
const endedDraining = "the engine ended while it was drained"

// Drain takes a ready engine out of service without stopping it: the handoff is removed, so that routers send it nothing
// more, and requests in flight are waited for, as long as a stop's drain would. The engine is ready all the while, and stays
// out of service until Resume or its end, also under the next manager. Hooks are left to the stop. It returns at once where
// nothing is in flight; what is left when the drain's time is over is told in a note.
//
// When ctx ends, the handoff stays away, and the error wraps ctx's cause. For a launch that is not ready it is ErrNotReady.
func (p *EngineProvisioner) Drain(ctx context.Context) error {
	r, err := p.withdraw(true)
	if err != nil {
		return fmt.Errorf("cannot drain %s: %w", p.cfg.Name(), err)
	}
	p.unpublish()
	p.note("it is taken out of service: its handoff is removed, and its engine runs on")
	waiting, end := p.drainContext(r)
	defer end()
	over := make(chan struct{})
	go func() {
		defer close(over)
		p.awaitIdle(waiting, r)
	}()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no longer waiting for the requests of %s, which is out of service: %w", p.cfg.Name(), context.Cause(ctx))
	}
}

// Resume puts an engine into service again that Drain has taken out: its handoff is there when it returns. One that is in
// service is left alone. For a launch that is not ready the error is ErrNotReady.
func (p *EngineProvisioner) Resume() error {
	was := p.isWithdrawn()
	r, err := p.withdraw(false)
	if err == nil && was {
		h, _ := p.Handoff()
		p.publishing.Lock()
		_, err = r.rewrite(h, p.admitted())
		p.publishing.Unlock()
	}
	if err != nil {
		return fmt.Errorf("cannot resume %s: %w", p.cfg.Name(), err)
	}
	if was {
		p.note("it is in service again: its handoff is written")
	}
	return nil
}

// withdraw keeps whether a ready launch is out of service, here and in the record.
func (p *EngineProvisioner) withdraw(out bool) (*run, error) {
	if _, ready := p.Handoff(); !ready || !p.Running() {
		return nil, ErrNotReady
	}
	ending := false
	err := changeRecord(p.run.files, func(current record, err error) (record, bool) {
		ending = err == nil && (current.LaunchID != p.run.rec.LaunchID || current.Desired != desiredRunning)
		current.Withdrawn = out
		return current, err == nil && !ending
	})
	if ending {
		err = fmt.Errorf("%w: %w", ErrNotReady, errEnding)
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.withdrawn = out
	return p.run, nil
}

// isWithdrawn reports whether the launch is out of service.
func (p *EngineProvisioner) isWithdrawn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.withdrawn
}

// drains reports whether a stop now begins with a drain, or goes on with another program's. It is called with mu held.
func (p *EngineProvisioner) drains() bool {
	return (p.state == StateReady || p.state == StateDraining) && p.failure == nil && p.drainTimeout() > 0
}

// drain runs the hooks and waits for the requests in flight, and comes back when there is no more to wait for: they are
// done, or the time is over, or the engine has ended, or is to be killed. The launch is stopping then.
func (p *EngineProvisioner) drain(r *run) {
	ctx, end := p.drainContext(r)
	defer end()
	outcome := ""
	p.mu.Lock()
	early := p.early
	p.mu.Unlock()
	var err error
	if !early { // hooks are about what was published, and so are those who do not know yet that it is no more
		if err = p.runHooks(ctx, r); err == nil {
			drain.Settle(ctx, time.Duration(p.cfg.Stop.Settle))
		}
	}
	if err == nil {
		outcome = p.awaitIdle(ctx, r)
	}
	if errors.Is(context.Cause(ctx), drain.ErrExited) {
		outcome = endedDraining
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drainErr, p.drained = err, outcome
	if p.state == StateDraining { // else the engine has ended, and its watcher was faster
		p.transition(StateStopping, outcome)
	}
}

// drainContext is the context of a drain. Its cause is drain.ErrOver, drain.ErrExited or drain.ErrHurry.
func (p *EngineProvisioner) drainContext(r *run) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	allowed, _ := p.stopTimes(r, true)
	limit := time.AfterFunc(allowed, func() { cancel(drain.ErrOver) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-r.exited:
			cancel(drain.ErrExited)
		case <-p.hurry:
			cancel(drain.ErrHurry)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { limit.Stop(); cancel(nil); <-done }
}

// awaitIdle waits until the engine has no request, and returns how that ended, for people. What ends badly is noted.
func (p *EngineProvisioner) awaitIdle(ctx context.Context, r *run) string {
	count, err := p.counter(r, time.Duration(r.rec.Launch.Ready.RequestTimeout))
	if errors.Is(err, errUncounted) && r.rec.Launch.Spec.DrainsItself {
		return ""
	}
	if err != nil {
		p.note("requests in flight are not waited for: " + err.Error())
		return ""
	}
	limit, _ := p.stopTimes(r, true)
	alone := func() bool { return drain.Alone(r.inst.PID(), r.rec.Port) }
	return drain.Await(ctx, count, alone, limit, p.note)
}

// counter gives what counts the requests in the engine. patience is how long a first answer may take.
func (p *EngineProvisioner) counter(r *run, patience time.Duration) (drain.Count, error) {
	if r.rec.Launch.Spec.Gauges == nil {
		return nil, errUncounted
	}
	key := r.key
	if p.engine == nil && p.cfg.APIKey != nil { // another provisioner's launch
		var err error
		if key, err = p.engineKey(r); err != nil {
			return nil, fmt.Errorf("api_key: %w", err)
		}
	}
	return drain.Counter(probe.New(port.Loopback(r.rec.Host), r.rec.Port, key, patience), r.rec.Launch.Spec.LaunchSpec, held{r}), nil
}

// held is a launch as a drain sees it.
type held struct{ r *run }

func (h held) Exited() bool { return h.r.inst.Exited() }
func (h held) Held() string { return h.r.held() }

// Clients that know the port may be served before the engine has proven to be ready: while it is asked for its first token,
// or for as long as its health page says something else than its requests. A stop must not cut them off either; yet a load,
// which is most of what is stopped early, is to be ended at once.

// earlyPatience is how long a stop waits for the metrics of an engine that is not ready. One that loads refuses, or
// answers with an error, in a millisecond.
const earlyPatience = time.Second

// mayServe reports whether a stop now asks an engine that is not ready whether it has requests. It is called with mu held.
func (p *EngineProvisioner) mayServe() bool {
	return p.state == StateStarting && p.failure == nil && p.drainTimeout() > 0
}

// serves reports whether an engine that is not ready has requests of clients: its gauges show them, or it has said that it is
// healthy and is too full to answer now.
func (p *EngineProvisioner) serves(r *run) bool {
	if r.checkListener() != nil { // another program's requests
		return false
	}
	ctx, end := p.drainContext(r)
	defer end()
	count, err := p.counter(r, earlyPatience)
	if err != nil {
		return false
	}
	own := r.rec.Launch.Ready.Answer != "off" && r.rec.Launch.Spec.Answer != nil && (p.byHand || r.asked.Load())
	return drain.Serves(ctx, count, own, p.heardHealthy)
}

// heardHealthy reports whether this program has heard from the engine that it is healthy.
func (p *EngineProvisioner) heardHealthy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.HasPrefix(p.heard, healthyWords)
}

// errEndsElsewhere ends the questions to an engine whose end another program has begun.
var errEndsElsewhere = errors.New("another command is stopping it")

// awaitForeignStop calls stopped when another program has begun to stop the engine, unless ctx ends first.
func (p *EngineProvisioner) awaitForeignStop(ctx context.Context, r *run, stopped func()) {
	err := caught.Do(p.opts.logger, p.cfg.Name(), func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if r.stoppedElsewhere() {
				stopped()
				return
			}
		}
	})
	if err != nil {
		p.note("a stop by another command is seen at its end: " + err.Error())
	}
}

// goHook is a hook of WithDrainHook.
type goHook struct {
	name string
	fn   func(context.Context, Handoff) error
}

// hooks are all hooks of the launch, in order.
func (p *EngineProvisioner) hooks(r *run) []hook.Step {
	p.mu.Lock()
	handoff := p.handoff
	p.mu.Unlock()
	var all []hook.Step
	for _, h := range p.opts.drainHooks {
		all = append(all, hook.Step{Name: h.name, Run: func(ctx context.Context) error {
			done := make(chan error, 1) // a hook that ignores its context is left behind
			go func() {
				var failed error
				err := caught.Do(p.opts.logger, p.cfg.Name(), func() { failed = h.fn(ctx, handoff) })
				done <- cmp.Or(err, failed)
			}()
			select {
			case err := <-done:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}})
	}
	about := p.cfg.hooked()
	about.URL = r.rec.url()
	return append(all, hook.Steps(p.cfg.Drain.Hooks, hook.Launch{
		Replica: about, PID: r.rec.Process.PID, Handoff: handoff,
		Dir: r.rec.Dir, Env: environ.Hook(p.cfg.secretVariables()), Hide: r.redact.Text,
		Secret: func(ref settings.SecretRef) (secret.Text, error) { return p.hookSecret(r, ref) },
	})...)
}

// runHooks runs the hooks, one after the other. Its error is that of a hook whose failure is fatal.
func (p *EngineProvisioner) runHooks(ctx context.Context, r *run) error {
	for _, h := range p.hooks(r) {
		if errors.Is(context.Cause(ctx), drain.ErrOver) {
			p.note(fmt.Sprintf("the drain's time is over before the hook %s", h.Name))
			continue
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was called off, which is no failure of a hook
		}
		err := h.Run(ctx)
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, drain.ErrExited), errors.Is(cause, drain.ErrHurry):
			return nil // whatever it says, it was interrupted
		case err == nil:
			continue
		case h.Fatal || errors.Is(err, ErrDrainAborted):
			p.note(fmt.Sprintf("the hook %s failed, the rest of the drain is left out: %v", h.Name, err))
			return fmt.Errorf("%s: %w: the hook %s failed: %w", p.cfg.Name(), ErrDrainAborted, h.Name, err)
		}
		p.note(fmt.Sprintf("the hook %s failed: %v", h.Name, err))
	}
	return nil
}

// hooked is what the placeholders of a request stand for, as far as the configuration tells.
func (c ProvisionConfig) hooked() hook.Replica {
	return hook.Replica{Pool: c.PoolID, Replica: c.ReplicaID, URL: probe.URL(port.Loopback(c.WithDefaults().Host), c.Port), Port: c.Port}
}
