package provisioner

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/wake"
	"github.com/llama-orch/engine-provisioner/internal/witness"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/settings"
)

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
	see := r.witness(ask, rest)
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
			token = r.lastChance(ctx, ask, time.Duration(c.TokenTimeout))
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
type processes struct{ launch.Instance }

func (p processes) Members() []witness.Member {
	found, _ := p.Instance.Members()
	members := make([]witness.Member, len(found))
	for i, m := range found {
		members[i] = witness.Member{State: m.State, CPU: m.CPU, Memory: m.Memory}
	}
	return members
}

func (r *run) seen() witness.Engine {
	return witness.Engine{Processes: processes{r.inst}, Spec: r.rec.Launch.Spec.LaunchSpec, Log: r.rec.Log, Nameless: &r.nameless}
}

func (r *run) witness(ask *probe.Prober, rest time.Duration) *witness.Witness {
	return witness.New(r.seen(), ask, rest)
}

// held says what suspends the engine; "" for nothing.
func (r *run) held() string { return r.seen().Held() }

// lastChance asks an engine of which nothing moves for one token.
func (r *run) lastChance(ctx context.Context, ask *probe.Prober, limit time.Duration) *witness.Chance {
	return r.seen().LastChance(ctx, ask, limit)
}
