package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/binary"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/internal/tool"
	"github.com/llama-orch/engine-provisioner/launch"
)

// calledOff is the error of a call whose context has ended: that is why, whatever the step said that it interrupted.
func (p *EngineProvisioner) calledOff(cause error) error {
	return &StartError{Failure: Failure{Replica: p.cfg.Name(), Cause: engine.CauseUnknown, Retry: true}, Err: cause}
}

// startErrorIn is startError of a call with ctx.
func (p *EngineProvisioner) startErrorIn(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return p.calledOff(context.Cause(ctx))
	}
	return p.startError(err)
}

// startError gives err the type that Start promises.
func (p *EngineProvisioner) startError(err error) error {
	var config *ConfigError
	var gpu *GPUError
	if errors.As(err, &config) || errors.As(err, &gpu) {
		return err
	}
	f := Failure{Replica: p.cfg.Name(), Cause: engine.CauseUnknown, Retry: true}
	if refused, ok := errors.AsType[*launch.Error](err); ok {
		if refused.Cause == engine.CauseDriver {
			return &GPUError{Err: err, Advice: refused.Advice}
		}
		f.Cause, f.Advice, f.Retry = refused.Cause, refused.Advice, diagnosis.Retryable(refused.Cause)
		return &StartError{Failure: f, Err: err}
	}
	if start, ok := errors.AsType[*StartError](err); ok {
		start.Replica, start.Retry = f.Replica, diagnosis.Retryable(start.Cause)
		return start
	}
	var taken *portError
	var executable *binary.Error
	var asked *tool.AskError
	var model *models.Error
	var memory *memoryError
	var key *probe.KeyError
	var build *acquire.Error
	switch {
	case errors.As(err, &model) && model.Fault == models.Download: // a time-out among them
		f.Cause = engine.CauseDownload
	case errors.As(err, &build):
		f.LogPath = build.Log
		f.Cause = engine.CauseBuildFailed
		if build.Retry {
			f.Cause = engine.CauseDownload
		}
		if f.LogPath != "" || build.Retry && p.cfg.Provisioning.Package != nil { // an installer only says that it is offline
			f.Advice = diagnosis.Advice(f.Cause)
		}
	case errors.As(err, &asked) && asked.Deaf():
		f.LogTail = asked.Lines
		f.Advice = "is it this engine's executable? A machine that is busy, or a disk that is far away, can make it that slow as well: then try again"
	case transient(err):
		f.Advice = "the machine is out of processes, memory or open files, or too slow to ask the executable; try again later"
	case errors.As(err, &key):
		f.Cause = engine.CauseUnauthorized
	case errors.As(err, &taken):
		f.Cause, f.Advice = portCause(taken.Reason), taken.Advice
	case errors.As(err, &model):
		f.Cause = engine.Cause(model.Fault)
	case errors.As(err, &memory):
		f.Cause = memory.cause()
		f.Advice = memory.advice()
	case errors.As(err, &asked):
		f.LogTail = asked.Lines
		f.Cause = engine.CauseLibMissing
		f.Advice = diagnosis.Advice(engine.CauseLibMissing)
		if asked.Problem != "" {
			f.Advice = diagnosis.AdviceExecutable
		}
	case errors.As(err, &executable):
		f.Cause = engine.CauseLibMissing
	}
	var network net.Error
	if f.Cause == engine.CauseDownload && f.Advice == "" && errors.As(err, &network) {
		f.Advice = diagnosis.Advice(engine.CauseDownload)
	}
	f.Retry = diagnosis.Retryable(f.Cause)
	return &StartError{Failure: f, Err: err}
}

// transient reports whether err says that the machine is too busy, which is not the executable's fault.
func transient(err error) bool {
	return slices.ContainsFunc([]error{
		syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, context.DeadlineExceeded,
	}, func(busy error) bool { return errors.Is(err, busy) })
}

// exitError says that the engine ended by itself. What was ready can be so again, whatever it ended of.
func (r *run) exitError(exit launch.Exit, ready bool) *ExitError {
	lines := r.lastLines()
	spec, how := r.rec.Launch.Spec.whole(), diagnosis.Exit(exit)
	found := diagnosis.OfLog(lines, how, spec, ready)
	f := r.failure(found.Cause, found.Evidence, lines)
	f.Advice = cmp.Or(found.Advice, f.Advice)
	f.Retry = f.Retry || ready
	if f.Cause == engine.CausePortInUse && r.rec.Launch.Mode != modeContainer { // there the port is the container's own
		r.explainBind(&f)
	}
	more := diagnosis.Finding{Cause: f.Cause, Evidence: f.Evidence, Advice: f.Advice, Retry: f.Retry}
	more.ByExit(how, spec.KillsItself)
	more.ByFiles(how, r.rec.Launch.Files)
	f.Cause, f.Evidence, f.Advice, f.Retry = more.Cause, more.Evidence, more.Advice, more.Retry
	if f.Cause == engine.CauseUnknown && !ready && r.asked.Load() {
		f.Cause, f.Advice = engine.CauseCannotAnswer, r.advice(engine.CauseCannotAnswer)
	}
	e := &ExitError{Failure: f, Code: -1, Signal: exit.Signal, Ready: ready, After: time.Since(r.started)}
	if exit.Known {
		e.Code = exit.Code
	}
	return e
}

// modelFiles are the files that a launch reads its model from, as they are at its start.
func (p launchPlan) modelFiles() []filestamp.Stamp {
	var paths []string
	if p.host.ModelPath != "" {
		dir, name := filepath.Split(p.host.ModelPath)
		for _, part := range models.SplitNames(name) {
			paths = append(paths, filepath.Join(dir, part))
		}
	}
	if p.spec.GGUF != nil {
		for _, path := range p.spec.GGUF.Beside {
			if !filepath.IsAbs(path) {
				path = filepath.Join(p.Dir, path)
			}
			paths = append(paths, path)
		}
	}
	return filestamp.Of(paths...)
}

// words are what an error quotes of the log: the evidence, or what the engine said last, which is better than nothing. What it
// said before a signal is not why.
func (e *ExitError) words() string {
	words := e.Evidence
	if words == "" && (e.Signal == "" || e.Signal == "aborted") {
		words = tail.LastWords(e.LogTail)
	}
	if words == "" {
		return ""
	}
	return fmt.Sprintf(": %q", tail.Cut(words))
}

// Incident is what the end of a launch, or of the attempt at one, means for whoever may start another. Its zero value says
// that another may help.
type Incident struct {
	Cause engine.Cause
	// Permanent says that another launch with the same settings can only end the same way.
	Permanent bool
	// Blameless says that neither the engine nor its settings are at fault, such as when a port or memory is taken.
	Blameless bool
	// Advice is what to do about it, for people; it may be empty.
	Advice string
}

// IncidentOf reads it from the error of Start, of WaitReady, or of Err.
func IncidentOf(err error) Incident {
	i := Incident{Cause: causeOf(err)}
	var failure *Failure
	var config *ConfigError
	var device *GPUError
	switch {
	case errors.As(err, &config):
		i.Permanent = true
	case errors.As(err, &device):
		i.Permanent, i.Advice = true, device.Advice
	case errors.As(err, &failure):
		i.Permanent, i.Advice = !failure.Retry, failure.Advice
	}
	for _, passing := range []error{ErrBusy, ErrNoMemory, syscall.ENOSPC, syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ETXTBSY} {
		if errors.Is(err, passing) {
			i.Blameless, i.Permanent = true, false
		}
	}
	return i
}

// Phase is where a supervised replica stands between its launches.
type Phase string

// The phases of a supervised replica.
const (
	PhaseRunning Phase = "running" // a launch is being started, loads, or is ready
	PhaseBackoff Phase = "backoff" // waiting to be started again
	PhaseOpen    Phase = "open"    // the breaker is open: too many starts failed; one more is tried at RetryAt
	PhaseFailed  Phase = "failed"  // given up until Reset
	PhaseStopped Phase = "stopped" // stopped because somebody asked
)

// Restarts is what a supervisor remembers of a replica's failures. It survives the supervisor's own crash.
type Restarts struct {
	Phase    Phase        `json:"phase"`
	Attempts int          `json:"attempts"`           // failures since the replica was last stable
	Failures int          `json:"failures"`           // starts in a row that failed before readiness
	Hindered int          `json:"hindered,omitempty"` // starts in a row that failed for a reason that is not the engine's
	Trials   int          `json:"trials"`             // starts of the open breaker that failed
	Trial    bool         `json:"trial,omitempty"`    // the breaker is half open: this launch decides
	RetryAt  time.Time    `json:"retry_at,omitzero"`  // of the next start, in backoff and open
	ReadyAt  time.Time    `json:"ready_at,omitzero"`  // of the launch that runs
	Last     string       `json:"last,omitempty"`     // the last failure, for people
	Total    int          `json:"total"`              // restarts since the replica was supervised first
	Cause    engine.Cause `json:"cause,omitempty"`    // of the last failure
	Advice   string       `json:"advice,omitempty"`   // what to do about it, for people
	// Served says that the replica has been ready with its present settings: nothing that it fails of is taken for hopeless.
	Served bool `json:"served,omitempty"`
}
