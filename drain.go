package provisioner

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// drainConfirm is the time between two readings of zero, which both are needed: a request that is still being parsed
	// is in no gauge of llama-server yet, and one that has just left them may have its last bytes to be sent.
	drainConfirm = 100 * time.Millisecond
	// Scraping resets llama-server's averaged gauges, so each reading is a hole in the user's own monitoring: no more of
	// them than a stop needs.
	drainPollMin = 250 * time.Millisecond
	drainPollMax = time.Second
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
	return (p.state == StateReady || p.state == StateDraining) && p.failure == nil && *p.cfg.Drain.Timeout > 0
}

// drain runs the hooks and waits for the requests in flight, and comes back when there is no more to wait for: they are
// done, or the time is over, or the engine has ended, or a caller of Stop is in a hurry. The launch is stopping then.
func (p *EngineProvisioner) drain(ctx context.Context, r *run) {
	ctx, end := p.drainContext(ctx, r)
	defer end()
	outcome := ""
	err := p.runHooks(ctx, r)
	if err == nil {
		outcome = p.awaitIdle(ctx, r)
	}
	if errors.Is(context.Cause(ctx), errExited) {
		outcome = endedDraining
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drainErr = err
	if p.state == StateDraining { // else the engine has ended, and its watcher was faster
		p.transition(StateStopping, outcome)
	}
}

// drainContext derives the context of a drain. Its cause is errDrainOver, errExited or errDrainHurry.
func (p *EngineProvisioner) drainContext(caller context.Context, r *run) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(caller))
	limit := time.AfterFunc(time.Duration(*p.cfg.Drain.Timeout), func() { cancel(errDrainOver) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-r.exited:
			cancel(errExited)
		case <-p.hurry:
			cancel(errDrainHurry)
		case <-caller.Done():
			cancel(errDrainHurry)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { limit.Stop(); cancel(nil); <-done }
}

// awaitIdle waits until the engine has no request, and returns how that ended, for people. What ends badly is noted.
func (p *EngineProvisioner) awaitIdle(ctx context.Context, r *run) string {
	count, err := p.counter(r)
	if errors.Is(err, errUncounted) && r.rec.Launch.Spec.DrainsItself {
		return ""
	}
	if err != nil {
		p.note("requests in flight are not waited for: " + err.Error())
		return ""
	}
	var unanswered *unansweredError
	began := time.Now()
	known, zeros, silent := -1, 0, 0
	for {
		n, err := count(ctx)
		wait := min(max(time.Since(began)/10, drainPollMin), drainPollMax)
		switch {
		case ctx.Err() != nil:
			return p.cutShort(context.Cause(ctx), known)
		case errors.As(err, &unanswered) && silent == 0:
			// Builds before b10429 answer only between two batches, and a dying engine's connections break before its
			// exit is seen.
			silent++
		case err != nil:
			p.note("requests in flight are not waited for: " + err.Error())
			return ""
		case n > 0:
			if known < 0 {
				p.note(fmt.Sprintf("%s in flight; waiting for up to %s", requests(n), time.Duration(*p.cfg.Drain.Timeout)))
			}
			known, zeros, silent = n, 0, 0
		case zeros == 0:
			zeros, silent, wait = 1, 0, drainConfirm
		case known < 0:
			return "" // there was nothing to wait for
		default:
			return fmt.Sprintf("drained in %s", time.Since(began).Round(time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return p.cutShort(context.Cause(ctx), known)
		case <-time.After(wait):
		}
	}
}

// cutShort notes with what the drain ended before its time. known is the last count, negative when there is none.
func (p *EngineProvisioner) cutShort(cause error, known int) string {
	left := requests(known) + " in flight"
	if known < 0 {
		left = "an unknown number of requests in flight"
	}
	switch {
	case errors.Is(cause, errExited):
	case errors.Is(cause, errDrainOver):
		p.note(fmt.Sprintf("the drain's %s are over with %s", time.Duration(*p.cfg.Drain.Timeout), left))
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

// counter gives what counts the requests in the engine.
func (p *EngineProvisioner) counter(r *run) (func(context.Context) (int, error), error) {
	gauges := r.rec.Launch.Spec.Gauges
	if gauges == nil {
		return nil, errUncounted
	}
	key := r.key
	if p.engine == nil && p.cfg.APIKey != nil { // another provisioner's launch
		var err error
		if key, err = p.cfg.APIKey.read(p.cfg); err != nil {
			return nil, fmt.Errorf("api_key: %w", err)
		}
	}
	ask := newProber(loopback(r.rec.Host), r.rec.Port, key, time.Duration(r.rec.Launch.Ready.RequestTimeout))
	return func(ctx context.Context) (int, error) {
		page, err := ask.metricsPage(ctx, gauges.Path)
		if err != nil {
			return 0, err
		}
		return gauges.sum(page)
	}, nil
}
