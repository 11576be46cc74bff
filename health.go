package provisioner

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/drain"
	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/wake"
	"github.com/llama-orch/engine-provisioner/internal/witness"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/settings"
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

const (
	// defaultTokenPeriod is how long an idle engine may go without a token.
	defaultTokenPeriod = 5 * time.Minute
	// diagnoseTime is what an engine gets to write its stack dump.
	diagnoseTime = 5 * time.Second
)

var (
	errHangs = errors.New("the engine hangs")
	errFails = errors.New("the engine fails")
)

// KeepHealthy looks at a ready engine until ctx ends or the launch does, and ends the launch when it cannot serve any more;
// then Err is a *NotReadyError. What c leaves out has its default. An engine that sleeps is not woken: its health path
// answers. It is for supervisors, once for each launch that is ready.
func (p *EngineProvisioner) KeepHealthy(ctx context.Context, c settings.Liveness) {
	c = c.WithDefaults()
	p.keepWatch(ctx, time.Duration(c.Period), func() { p.keepHealthy(ctx, c) })
}

func (p *EngineProvisioner) keepHealthy(ctx context.Context, c settings.Liveness) {
	ctx, cancel := p.within(ctx)
	defer cancel(nil)
	r, idle := p.run, p.tokenPeriod(c)
	ask := r.prober(c.Timeout)
	rest := time.Duration(c.WedgedAfter) / 4
	if idle > 0 {
		rest = min(rest, idle/4)
	}
	judge := life.New(life.Limits{Failures: c.Failures, WedgedAfter: time.Duration(c.WedgedAfter), IdleAfter: idle})
	see := witness.New(r.seen(), ask, rest)
	timer := time.NewTimer(wake.Until(time.Now(), time.Duration(c.Period)))
	defer timer.Stop()
	var tell witness.Teller
	var token *witness.Chance
	defer func() {
		cancel(nil)
		if token != nil {
			<-token.Over
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.done:
			return
		case <-timer.C:
			timer.Reset(wake.Until(time.Now(), time.Duration(c.Period)))
		}
		facts := see.Look(ctx)
		if ctx.Err() != nil {
			return
		}
		if token.Add(&facts) {
			token = nil
		}
		v := judge.See(time.Now(), facts)
		if note := tell.Note(v, time.Now()); note != "" {
			p.note(note)
		}
		switch {
		case v.Life == life.Gone:
			return
		case v.Life.Lost():
			if r.stoppedElsewhere() {
				return // another command is stopping it, and a server that stops does not answer
			}
			if end := p.condemn(p.lost(v)); end != nil {
				p.diagnose(c.DiagnoseSignal)
				_ = end() // what it says stands in Err
			}
			return
		case v.Ask && token == nil:
			token = r.seen().LastChance(ctx, ask, time.Duration(c.TokenTimeout))
		}
	}
}

// tokenPeriod is how long the engine may be idle without a token; 0 means for ever. An engine is not kept awake, and not asked for
// what the configuration does not ask it for.
func (p *EngineProvisioner) tokenPeriod(c settings.Liveness) time.Duration {
	launch := p.run.rec.Launch
	p.mu.Lock()
	answers := p.handoff.Answer == answerOK
	p.mu.Unlock()
	switch {
	case launch.Spec.Answer == nil, launch.Spec.SleepsIdle:
		return 0
	case c.TokenPeriod > 0:
		return time.Duration(c.TokenPeriod)
	case launch.Spec.Counters != nil && answers:
		return defaultTokenPeriod
	}
	return 0
}

// diagnose asks a hanging engine for its last will.
func (p *EngineProvisioner) diagnose(name string) {
	signal, ok := map[string]syscall.Signal{"SIGABRT": syscall.SIGABRT, "SIGQUIT": syscall.SIGQUIT}[name]
	if !ok {
		return
	}
	if err := p.run.inst.Signal(signal); err != nil {
		p.note("cannot ask the engine for a stack dump: " + err.Error())
		return
	}
	select {
	case <-p.run.exited:
	case <-time.After(diagnoseTime):
	}
}

// lost says why an engine is given up that was ready.
func (p *EngineProvisioner) lost(v life.Verdict) error {
	why, advice := errFails, `read the log; raise "liveness.failures" if the engine may refuse so often`
	if v.Life == life.Wedged {
		why, advice = errHangs, `read the log, and set "liveness.diagnose_signal" to see where it stands; `+
			`raise "liveness.wedged_after" if it may stand still for so long`
	}
	f := p.run.fail(engine.CauseUnknown)
	f.Advice = advice
	return &NotReadyError{Failure: f, After: time.Since(p.run.started), Ready: true, Err: fmt.Errorf("%w: %s", why, v.Reason)}
}

// processes are those of a launch, as a witness sees them.
type processes struct {
	launch.Instance
	look func() ([]launch.Member, error)
}

func (p processes) Members() []witness.Member {
	found, _ := p.look()
	members := make([]witness.Member, len(found))
	for i, m := range found {
		members[i] = witness.Member{State: m.State, CPU: m.CPU, Memory: m.Memory}
	}
	return members
}

func (r *run) seen() witness.Engine { return r.seenBy(r.inst.Members) }

func (r *run) seenBy(look func() ([]launch.Member, error)) witness.Engine {
	return witness.Engine{Processes: processes{r.inst, look}, Spec: r.rec.Launch.Spec.LaunchSpec, Log: r.rec.Log, Nameless: &r.nameless}
}

// held says what suspends the engine; "" for nothing.
func (r *run) held() string { return r.seen().Held() }

// heldAmong is held by what was seen already.
func (r *run) heldAmong(members []launch.Member) string {
	return r.seenBy(func() ([]launch.Member, error) { return members, nil }).Held()
}
