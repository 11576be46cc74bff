package provisioner

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/binary"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/probe"
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
