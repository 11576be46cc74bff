package provisioner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
)

const (
	// drainConfirm is the time between two readings of zero, which both are needed: a request that is still being parsed
	// is in no gauge of llama-server yet, and one that has just left them may have its last bytes to be sent.
	drainConfirm = 100 * time.Millisecond
	// Scraping resets llama-server's averaged gauges, so each reading is a hole in the user's own monitoring: no more of
	// them than a stop needs.
	drainPollMin = 250 * time.Millisecond
	drainPollMax = time.Second
	// drainFailures is how many refusals or errors in a row end the wait: a dying engine's connections break before its exit is
	// seen.
	drainFailures = 2
)

var (
	errDrainOver  = errors.New("the drain's time is over")
	errDrainHurry = errors.New("the drain was cut short")
	errUncounted  = errors.New("the engine's metrics are off, or do not count them")
)

// endedDraining is the message of a stop whose engine did not wait for its SIGTERM.
const endedDraining = "the engine ended while it was drained"

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
	if !early { // hooks are about what was published
		err = p.runHooks(ctx, r)
	}
	if err == nil {
		outcome = p.awaitIdle(ctx, r)
	}
	if errors.Is(context.Cause(ctx), errExited) {
		outcome = endedDraining
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drainErr, p.drained = err, outcome
	if p.state == StateDraining { // else the engine has ended, and its watcher was faster
		p.transition(StateStopping, outcome)
	}
}

// drainContext is the context of a drain. Its cause is errDrainOver, errExited or errDrainHurry.
func (p *EngineProvisioner) drainContext(r *run) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	allowed, _ := p.stopTimes(r, true)
	limit := time.AfterFunc(allowed, func() { cancel(errDrainOver) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-r.exited:
			cancel(errExited)
		case <-p.hurry:
			cancel(errDrainHurry)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { limit.Stop(); cancel(nil); <-done }
}

// awaitIdle waits until the engine has no request, and returns how that ended, for people. What ends badly is noted. An
// engine that gives no answer is busy: it is waited for until the drain's time is over, as long as it lives and refuses nothing.
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
	judge := life.New(life.Limits{Failures: drainFailures})
	began := time.Now()
	known, zeros, suspended, silent := -1, 0, 0, false
	for {
		n, facts, err := count(ctx)
		if ctx.Err() != nil {
			return p.cutShort(context.Cause(ctx), limit, known)
		}
		if facts.Held != "" {
			suspended++
		} else {
			suspended = 0
		}
		wait := min(max(time.Since(began)/10, drainPollMin), drainPollMax)
		switch v := judge.See(time.Now(), facts); {
		case v.Life == life.Gone: // its watcher is about to see it, too
		case v.Life.Lost(), suspended >= drainFailures:
			p.note("requests in flight are not waited for: " + err.Error())
			return ""
		case v.Life == life.Busy && facts.Answer == life.Silence && !silent:
			silent = true
			p.note(fmt.Sprintf("%s is unanswered, as by an engine that is full of requests; waiting for up to %s", facts.Page, limit))
		case v.Life != life.Working:
		case n > 0:
			if known < 0 {
				p.note(fmt.Sprintf("%s in flight; waiting for up to %s", requests(n), limit))
			}
			known, zeros = n, 0
		case zeros == 0:
			zeros, wait = 1, drainConfirm
		case known < 0 && !silent:
			return "" // there was nothing to wait for
		default:
			return fmt.Sprintf("drained in %s", time.Since(began).Round(time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return p.cutShort(context.Cause(ctx), limit, known)
		case <-time.After(wait):
		}
	}
}

// cutShort notes with what the drain ended before its time. known is the last count, negative when there is none.
func (p *EngineProvisioner) cutShort(cause error, limit time.Duration, known int) string {
	left := requests(known) + " in flight"
	if known < 0 {
		left = "an unknown number of requests in flight"
	}
	switch {
	case errors.Is(cause, errExited):
	case errors.Is(cause, errDrainOver):
		p.note(fmt.Sprintf("the drain's %s are over with %s", limit, left))
	case known > 0:
		p.note(fmt.Sprintf("%v with %s", cause, left))
	}
	return ""
}

func requests(n int) string { return count(n, "request", "requests") }

func count(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// counter gives what counts the requests in the engine, with what can be said of its life meanwhile. The error is what there is
// to tell of facts that speak against it. patience is how long a first answer may take.
func (p *EngineProvisioner) counter(r *run, patience time.Duration) (func(context.Context) (int, life.Facts, error), error) {
	spec := r.rec.Launch.Spec
	if spec.Gauges == nil {
		return nil, errUncounted
	}
	key := r.key
	if p.engine == nil && p.cfg.APIKey != nil { // another provisioner's launch
		var err error
		if key, err = p.engineKey(r); err != nil {
			return nil, fmt.Errorf("api_key: %w", err)
		}
	}
	ask := probe.New(port.Loopback(r.rec.Host), r.rec.Port, key, patience)
	timeout := ask.Timeout
	return func(ctx context.Context) (int, life.Facts, error) {
		n, err := ask.Within(timeout).Requests(ctx, probe.Field(spec.Asleep), probe.Series(*spec.Gauges))
		facts := life.Facts{Gone: r.inst.Exited(), Page: spec.Gauges.Path, Answer: life.Fine}
		var unanswered *probe.UnansweredError
		switch {
		case err == nil:
			timeout = ask.Timeout
			return n, facts, nil
		case errors.Is(err, probe.ErrNoAnswer):
			timeout = ask.Longer(timeout)
			facts.Answer = life.Silence
			if facts.Held = r.held(); facts.Held != "" {
				err = fmt.Errorf("%w; the engine is suspended (%s)", err, facts.Held)
			}
		case errors.As(err, &unanswered):
			facts.Answer = life.Refused
		default:
			facts.Answer = life.Mistaken
		}
		return 0, facts, err
	}, nil
}
