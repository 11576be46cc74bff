package provisioner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/drain"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/settings"
)

// The results of the answer proof, as the handoff tells them.
const (
	answerOK         = "ok"
	answerNotOffered = "not_offered" // the model offers no completions
	answerOff        = "off"         // switched off, or the engine has no such request
)

// WaitReady returns when the engine is ready and its handoff file is written. Ready means: the health path says 200;
// what answers is this launch's process tree, of the expected model; the engine can produce a token; the metrics page keeps
// its contract when metrics are on; and it runs on the GPU when one is required.
//
// It returns an *ExitError as soon as the engine exits, and a *NotReadyError or *GPUError when the engine makes no
// progress, takes too long (see settings.Ready) or is not what it should be: then the engine is stopped before the
// return. When ctx ends first, the error is a *NotReadyError that wraps ctx's cause, the engine loads on, and WaitReady
// may be called again. After readiness it returns the same handoff at once, whatever ctx says; after a Stop the error is a
// *NotReadyError that wraps ErrStopped. Before Start it wraps ErrNotStarted, and for a launch that was attached to while it
// loads ErrBusy: the provisioner that has started it waits for it.
func (p *EngineProvisioner) WaitReady(ctx context.Context) (Handoff, error) {
	if handoff, ready := p.Handoff(); ready { // whatever ctx says
		return handoff, nil
	}
	select {
	case p.waiting <- struct{}{}:
		defer func() { <-p.waiting }()
	case <-ctx.Done():
		return Handoff{}, p.notReady(context.Cause(ctx))
	}
	if handoff, ready := p.Handoff(); ready {
		return handoff, nil
	}
	p.mu.Lock()
	r, state := p.run, p.state
	p.mu.Unlock()
	switch {
	case state.Final() || state == StateDraining || state == StateStopping:
		return Handoff{}, p.endedBeforeReady(ctx)
	case r == nil:
		return Handoff{}, fmt.Errorf("cannot wait for %s: %w", p.cfg.Name(), ErrNotStarted)
	case p.engine == nil:
		return Handoff{}, fmt.Errorf("cannot wait for %s: %w: another provisioner is waiting for it", p.cfg.Name(), ErrBusy)
	}

	inner, cancel := p.within(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(time.Until(r.readyBy()), func() {
		cancel(fmt.Errorf("%w: more than %s", errTooLong, time.Duration(r.rec.Launch.Ready.Timeout)))
	})
	defer limit.Stop()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		err := caught.Do(p.opts.logger, p.cfg.Name(), func() {
			r.watchProgress(inner, time.Duration(r.rec.Launch.Ready.Stall), r.rec.Launch.GPU == engine.GPURequired, cancel)
		})
		if err != nil {
			cancel(err)
		}
	}()
	exitSeen := make(chan struct{})
	go func() {
		defer close(exitSeen)
		select {
		case <-r.exited:
			cancel(drain.ErrExited)
		case <-inner.Done():
		}
	}()
	foreign := make(chan struct{})
	go func() {
		defer close(foreign)
		p.awaitForeignStop(inner, r, func() { cancel(errEndsElsewhere) })
	}()
	defer func() { cancel(nil); <-watched; <-exitSeen; <-foreign }()

	handoff, err := p.becomeReady(inner, r)
	if err == nil {
		return handoff, nil
	}
	// Whatever the last step said: when the engine is gone, that is why. A dying engine's connections break before
	// its exit is seen: a dump of its memory takes its time, and so does everything on a busy machine.
	if inner.Err() == nil {
		dying := 200 * time.Millisecond
		if probe.BrokeOff(err) {
			dying = 2 * time.Second
		}
		select {
		case <-r.exited:
		case <-time.After(dying):
		}
	}
	if cause := context.Cause(inner); cause != nil {
		err = cause
	}
	if closed(r.exited) {
		err = drain.ErrExited
	}
	switch {
	case errors.Is(err, errStoppedElsewhere):
		return Handoff{}, p.notReady(err)
	case errors.Is(err, drain.ErrExited), errors.Is(err, errEndsElsewhere), errors.Is(err, ErrStopped), errors.Is(err, ErrReleased):
		return Handoff{}, p.endedBeforeReady(ctx)
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return Handoff{}, p.notReady(err)
	}
	return Handoff{}, p.giveUp(p.notReady(err))
}

// Handoff returns what is handed off of a launch that is ready.
func (p *EngineProvisioner) Handoff() (h Handoff, ready bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handoff, p.state == StateReady
}

// endedBeforeReady waits for the end of a launch and says why it came.
func (p *EngineProvisioner) endedBeforeReady(ctx context.Context) error {
	if !errors.Is(context.Cause(p.life), ErrStopped) {
		select {
		case <-p.done:
		case <-ctx.Done():
			return p.notReady(context.Cause(ctx))
		}
	}
	if err := p.Err(); err != nil {
		return err
	}
	return p.notReady(ErrStopped)
}

// notReady makes err a *NotReadyError, unless it is about the GPU.
func (p *EngineProvisioner) notReady(err error) error {
	var gpu *GPUError
	if errors.As(err, &gpu) {
		return err
	}
	p.mu.Lock()
	r, heard := p.run, p.heard
	p.mu.Unlock() // the engine's last words are on the disk
	e := &NotReadyError{Failure: Failure{Replica: p.cfg.Name(), Cause: engine.CauseUnknown, Retry: true}, Err: err, Last: heard}
	if r == nil {
		return e
	}
	e.After = time.Since(r.started)
	if _, refused := errors.AsType[*probe.UnauthorizedError](err); refused {
		e.Failure, e.Last = r.fail(engine.CauseUnauthorized), ""
		return e
	}
	var proof *proofError
	if errors.As(err, &proof) {
		e.Failure, e.Last = r.fail(proof.cause), ""
		if proof.advice != "" {
			e.Advice = proof.advice
		}
		return e
	}
	e.Failure = r.fail(engine.CauseUnknown)
	switch {
	case errors.Is(err, ErrStopped): // it was no failure of the engine's
		e.Advice, e.LogTail, e.Last = "", nil, ""
	case errors.Is(err, errStalled):
		e.Advice = "look at the log; raise \"ready.stall\" if the engine may be silent for so long"
	case errors.Is(err, errTooLong):
		e.Advice = "look at the log; raise \"ready.timeout\" if the model needs more"
	default:
		e.Advice = ""
	}
	return e
}

// becomeReady waits for the engine's own word and then does not take it: every claim is checked. The handoff is
// published last.
func (p *EngineProvisioner) becomeReady(ctx context.Context, r *run) (_ Handoff, err error) {
	defer caught.Into(&err, p.opts.logger, p.cfg.Name())
	ask, leave := r.prober(r.rec.Launch.Ready.RequestTimeout).Holding()
	defer leave()
	spec := r.rec.Launch.Spec
	// 1. The engine says that it is ready.
	if err := ask.AwaitHealthy(ctx, spec.Health, spec.HealthTakes, r.started, p.hear); err != nil {
		return Handoff{}, err
	}
	p.hear(healthyWords)
	// 2. It is this launch that says so.
	if err := r.checkListener(); err != nil {
		return Handoff{}, err
	}
	proven := proof{answer: answerOff}
	err = ask.UntilAnswered(ctx, r.started, p.hear, func(ask *probe.Prober) (err error) {
		proven.version, err = p.checkIdentity(ctx, ask, r)
		return err
	})
	if err != nil {
		return Handoff{}, err
	}
	proven.slots = ask.Slots(ctx, probe.Field(spec.SlotsAt), spec.Slots)
	// 3. It can produce a token: a vLLM was healthy until its first one killed it.
	if r.rec.Launch.Ready.Answer != "off" && spec.Answer != nil {
		r.asked.Store(true)
		p.hear(healthyWords + ", but no token yet")
		offered, err := p.firstToken(ctx, ask, r)
		switch {
		case err != nil:
			return Handoff{}, &proofError{cause: engine.CauseCannotAnswer, err: err}
		case offered:
			proven.answer = answerOK
			p.hear(healthyWords)
		default:
			p.hear(healthyWords)
			proven.answer = answerNotOffered
			p.note("the model offers no completions (embeddings or reranking?): ready without the proof of an answer")
		}
	}
	// 4. Its metrics are there when they were asked for. After the first token, because engines make some series for it.
	if spec.Metrics != nil {
		err := ask.UntilAnswered(ctx, r.started, p.hear, func(ask *probe.Prober) error { return ask.CheckMetrics(ctx, spec.Metrics.Path, spec.Metrics.Required) })
		if err != nil {
			return Handoff{}, &proofError{engine.CauseUnknown, err, "use an engine with working metrics, or switch them off in \"flags\""}
		}
	}
	// 5. It runs on the GPU. After the first token, because engines allocate lazily.
	if r.rec.Launch.GPU == engine.GPURequired {
		if err := p.checkGPU(ctx, r, false); err != nil {
			return Handoff{}, err
		}
	}
	return p.publish(ctx, r, proven)
}

// prober questions this launch. An engine whose healthy answer takes its time gets five times that.
func (r *run) prober(timeout settings.Duration) *probe.Prober {
	limit := max(time.Duration(timeout), 5*r.rec.Launch.Spec.HealthTakes)
	return probe.New(port.Loopback(r.rec.Host), r.rec.Port, r.key, limit)
}

// healthyWords are what is heard of an engine from its first good answer on.
const healthyWords = "200 OK"

func (p *EngineProvisioner) hear(words string) {
	p.mu.Lock()
	p.heard = words
	p.mu.Unlock()
}

var errStoppedElsewhere = fmt.Errorf("%w by another command", ErrStopped)

// stoppedElsewhere reports whether another provisioner has begun to stop the engine.
func (r *run) stoppedElsewhere() bool {
	rec, err := readRecord(r.files)
	return err == nil && rec.LaunchID == r.rec.LaunchID && rec.Desired == desiredStopped
}
