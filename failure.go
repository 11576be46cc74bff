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
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/binary"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/internal/tool"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/report"
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
	return &StartError{Failure: f, Err: access.Explain(err)}
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
	if f.Cause == engine.CausePortInUse && r.rec.Launch.Mode != perform.ModeContainer { // there the port is the container's own
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

// IncidentOf reads it from the error of Start, of WaitReady, or of Err.
func IncidentOf(err error) report.Incident {
	i := report.Incident{Cause: causeOf(err)}
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
