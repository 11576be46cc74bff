package provisioner

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/probe"
)

// Clients that know the port may be served before the engine has proven to be ready: while it is asked for its first token,
// or for as long as its health page says something else than its requests. A stop must not cut them off either; yet a load,
// which is most of what is stopped early, is to be ended at once.

const (
	// earlyPatience is how long a stop waits for the metrics of an engine that is not ready. One that loads refuses, or
	// answers with an error, in a millisecond.
	earlyPatience = time.Second
	// ownLeaves is how long our own question for a token may stay in the engine's gauges after it was given up: a
	// llama-server looks each second whether its client is there, and a manager as often whether its engine is stopped.
	ownLeaves = 3 * time.Second
)

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
	for began, seen := time.Now(), false; ctx.Err() == nil; {
		n, facts, err := count(ctx)
		switch {
		case err != nil:
			return facts.Held == "" && errors.Is(err, probe.ErrNoAnswer) && p.heardHealthy()
		case n == 0 && !seen:
			return false
		case n == 0:
			seen = false // what has left the gauges may have its last bytes to be sent
		case n > 1 || !own || time.Since(began) > ownLeaves:
			return true
		default:
			seen = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(drainConfirm):
		}
	}
	return false
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
