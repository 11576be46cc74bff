package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// LivenessConfig says how a [Supervisor] notices that a ready engine hangs.
type LivenessConfig struct {
	// Period is the time between two questions to the health path. Left out, it is 10 seconds.
	Period Duration `json:"period,omitempty"`
	// Timeout bounds each. Left out, it is 5 seconds.
	Timeout Duration `json:"timeout,omitempty"`
	// Failures is how many in a row make the engine dead. Left out, it is 3.
	Failures int `json:"failures,omitempty" validate:"omitempty,min=1,max=100"`
	// DiagnoseSignal is sent to a hanging engine before it is stopped, so that it can write a stack dump to its log:
	// "SIGABRT" or "SIGQUIT". Left out, none is sent.
	DiagnoseSignal string `json:"diagnose_signal,omitempty" validate:"omitempty,oneof=SIGABRT SIGQUIT"`
	// TokenPeriod is the time between two questions for one token, which is asked only while the engine is idle by its own
	// gauges and does not sleep. It finds what the health path hides: llama-server goes on saying 200 when its loop hangs.
	// Left out, no token is asked for.
	TokenPeriod Duration `json:"token_period,omitempty"`
	// TokenTimeout bounds each. Left out, it is 30 seconds.
	TokenTimeout Duration `json:"token_timeout,omitempty"`
}

func (c LivenessConfig) withDefaults() LivenessConfig {
	if c.Period == 0 {
		c.Period = Duration(10 * time.Second)
	}
	if c.Timeout == 0 {
		c.Timeout = Duration(5 * time.Second)
	}
	if c.Failures == 0 {
		c.Failures = 3
	}
	if c.TokenTimeout == 0 {
		c.TokenTimeout = Duration(30 * time.Second)
	}
	return c
}

// diagnoseTime is what an engine gets to write its stack dump.
const diagnoseTime = 5 * time.Second

// untilNext is how long something that is done every interval waits from now on. All replicas wake at the same moments,
// whole seconds for most: a wake-up costs more than what is done then (0.5 ms against 0.1 ms for a health check).
func untilNext(now time.Time, interval time.Duration) time.Duration {
	return now.Add(interval).Truncate(min(interval, time.Second)).Sub(now)
}

// errHangs says that a ready engine does not answer any more.
var errHangs = errors.New("the engine hangs")

// keepHealthy asks a ready engine for its health until ctx ends, and gives it up when it hangs. An engine that sleeps
// is not woken: its health path answers. One that was suspended by a signal is left alone: it does not hang, somebody
// holds it.
func (p *EngineProvisioner) keepHealthy(ctx context.Context, c LivenessConfig) {
	r := p.run
	ask := r.prober(c.Timeout)
	timer := time.NewTimer(untilNext(time.Now(), time.Duration(c.Period)))
	defer timer.Stop()
	failures, suspended, asked := 0, false, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.done:
			return
		case <-timer.C:
			timer.Reset(untilNext(time.Now(), time.Duration(c.Period)))
		}
		if s, err := procfs.ReadStat(r.rec.Process.PID); err == nil && s.State == 'T' {
			if !suspended {
				p.note("the engine is suspended (SIGSTOP); continue it with SIGCONT")
			}
			suspended, failures = true, 0
			continue
		}
		suspended = false
		err := p.checkHealth(ctx, ask)
		if err == nil && c.TokenPeriod > 0 && time.Since(asked) >= time.Duration(c.TokenPeriod) {
			asked = time.Now()
			err = p.checkToken(ctx, ask, time.Duration(c.TokenTimeout))
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
			continue
		}
		if failures++; failures >= c.Failures {
			if r.stoppedElsewhere() {
				return // another command is stopping it, and a server that stops does not answer
			}
			if end := p.condemn(p.hangs(failures, err)); end != nil {
				p.diagnose(c.DiagnoseSignal)
				_ = end() // what it says stands in Err
			}
			return
		}
	}
}

func (p *EngineProvisioner) checkHealth(ctx context.Context, ask *prober) error {
	path := p.run.rec.Launch.Spec.Health
	a, err := ask.get(ctx, path, maxHealthBody)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("%s answers %s", path, a)
	}
	return err
}

// checkToken asks an idle engine for one token. An engine that is busy is left to its work, one that sleeps to its sleep,
// and of one whose gauges cannot be read nothing is known.
func (p *EngineProvisioner) checkToken(ctx context.Context, ask *prober, timeout time.Duration) error {
	spec := p.run.rec.Launch.Spec
	count, err := p.counter(p.run)
	if spec.Answer == nil || err != nil {
		return nil
	}
	if n, err := count(ctx); n > 0 || err != nil || ask.asleep(ctx, spec.Asleep) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errNoAnswer)
	defer cancel()
	if _, err := ask.askToken(ctx, *spec.Answer, spec.MustAnswer); err != nil {
		return fmt.Errorf("idle, but without a token: %w", err)
	}
	return nil
}

// asleep reports whether the engine says that it sleeps.
func (p *prober) asleep(ctx context.Context, f Field) bool {
	if f == (Field{}) {
		return false
	}
	a, err := p.get(ctx, f.Path, maxJSONBody)
	var doc any
	return err == nil && json.Unmarshal(a.body, &doc) == nil && lookUp(doc, f.Key) == true
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

func (p *EngineProvisioner) hangs(failures int, err error) error {
	f := p.run.fail(CauseUnknown)
	f.Advice = "read the log"
	return &NotReadyError{
		Failure: f, After: time.Since(p.run.started),
		Err: fmt.Errorf("%w: %d health checks in a row failed, the last one with: %w", errHangs, failures, err),
	}
}
