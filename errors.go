package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/report"
)

// Sentinel errors, to be told apart with [errors.Is].
var (
	// ErrStarted is returned by Start on a provisioner that was started before: one EngineProvisioner is one launch.
	ErrStarted = errors.New("already started")
	// ErrNotStarted is returned by WaitReady before Start.
	ErrNotStarted = errors.New("not started")
	// ErrReleased is what Err and Stop return after Release, and what a fleet answers from then on.
	ErrReleased = errors.New("released")
	// ErrStopped is wrapped by the errors of Start, Prepare and WaitReady when Stop was called before or meanwhile, and
	// by those of a fleet that was stopped.
	ErrStopped = errors.New("stopped")
	// ErrKilled is returned by Stop when the engine outlived its grace period and was ended by SIGKILL. The tree is
	// gone and the port is free: it is a remark, not a failure to stop, and is never told beside one.
	ErrKilled = errors.New("killed after the grace period")
	// ErrUnkillable is returned by Stop when a process survived SIGKILL (a driver hang, an uninterruptible sleep). Its
	// memory and port must be taken as still in use.
	ErrUnkillable = proc.ErrUnkillable
	// ErrDrainAborted is returned by Stop when a drain hook failed whose failure is fatal ("on_failure: abort"). The rest
	// of the drain was left out; the engine is gone as after any other stop.
	ErrDrainAborted = errors.New("the drain was aborted")
	// ErrBusy is wrapped by errors that say that something else holds what a start needs: another manager the
	// replica, or another process the port.
	ErrBusy = port.ErrBusy
	// ErrLocked is wrapped by *LockedError: another manager is at work in the state directory. It is an ErrBusy.
	ErrLocked = fmt.Errorf("%w: another manager holds the state directory", ErrBusy)
	// ErrNotFound is returned by Attach and Differences for a replica without a record, and by a fleet and its Request
	// functions for one that it has not.
	ErrNotFound = errors.New("not found")
	// ErrNotRunning is returned by Attach for a replica whose engine is gone.
	ErrNotRunning = errors.New("not running")
	// ErrNotReady is returned by Drain and Resume for a launch that is not ready.
	ErrNotReady = errors.New("not ready")
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Line    int    `json:"line,omitempty"` // 1-based; 0 where there is no file
	Column  int    `json:"column,omitempty"`
	Key     string `json:"key"`     // such as "pools[0].port"
	Message string `json:"message"` // what is wrong, and what to write instead
}

// ConfigError is everything that is wrong with a configuration, in the order of the file.
type ConfigError struct {
	File     string // "" for a configuration made in Go
	Problems []Problem

	err error // why the file could not be read; nil otherwise
}

// Unwrap returns the error of a file that could not be read, such as fs.ErrNotExist.
func (e *ConfigError) Unwrap() error { return e.err }

// Error lists all problems, one a line.
func (e *ConfigError) Error() string {
	var b strings.Builder
	if len(e.Problems) > 1 {
		fmt.Fprintf(&b, "%d problems in the configuration:", len(e.Problems))
	}
	for _, p := range e.Problems {
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		if e.File != "" {
			b.WriteString(e.File + ":")
			if p.Line > 0 {
				fmt.Fprintf(&b, "%d:", p.Line)
			}
			if p.Column > 0 {
				fmt.Fprintf(&b, "%d:", p.Column)
			}
			b.WriteString(" ")
		}
		if p.Key != "" {
			b.WriteString(p.Key + ": ")
		}
		b.WriteString(p.Message)
	}
	return tail.Plain(b.String())
}

// Failure is what the errors of an engine have in common. [errors.As] with a *Failure finds that of a [StartError], an
// [ExitError] or a [NotReadyError], whichever of them an error wraps.
type Failure struct {
	Replica  string       `json:"replica"`            // "pool/replica"
	Cause    engine.Cause `json:"cause"`              // why, for programs
	Evidence string       `json:"evidence,omitempty"` // what tells the cause, mostly of the log: the first error of its end, and the line that names the cause; "" for nothing
	Advice   string       `json:"advice,omitempty"`   // what to do about it
	Retry    bool         `json:"retry"`              // whether trying again unchanged can help
	LogTail  []string     `json:"log_tail,omitempty"` // the engine's last lines, cleaned of control bytes and secrets, at most 4 KiB
	LogPath  string       `json:"log_path,omitempty"` // where the whole log is
}

// Error says the replica, the cause and the advice. The errors that hold f say more.
func (f *Failure) Error() string { return f.text("failed", nil) }

// As is for [errors.As]: it makes f the target of an error that holds it.
func (f *Failure) As(target any) bool {
	t, ok := target.(**Failure)
	if ok {
		*t = f
	}
	return ok
}

func (f *Failure) text(what string, err error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", f.Replica, what)
	if err != nil {
		fmt.Fprintf(&b, ": %v", err)
	}
	if f.Cause != "" && f.Cause != engine.CauseUnknown {
		fmt.Fprintf(&b, " [%s]", f.Cause)
	}
	if f.Advice != "" {
		b.WriteString("; " + f.Advice)
	}
	return tail.Plain(b.String())
}

// StartError says that an engine could not be prepared or started. Nothing of it is left behind.
type StartError struct {
	Failure
	Err error

	preparing bool // nothing was to be started
}

func (e *StartError) Error() string {
	if e.preparing {
		return e.text("cannot prepare", e.Err)
	}
	return e.text("cannot start", e.Err)
}
func (e *StartError) Unwrap() error { return e.Err }

// ExitError says that an engine ended without being asked to, whatever its exit code.
type ExitError struct {
	Failure
	Code   int    // exit code; -1 when a signal ended it or the code is not known
	Signal string // such as "killed"; "" when it exited by itself
	Ready  bool   // whether it had been ready
	After  time.Duration
}

func (e *ExitError) Error() string {
	how := "with an unknown status"
	switch {
	case e.Signal != "":
		how = "by signal: " + e.Signal
	case e.Code >= 0:
		how = fmt.Sprintf("with code %d", e.Code)
	}
	when := "while loading"
	if e.Ready {
		when = "after it was ready"
	}
	what := fmt.Sprintf("engine exited %s %s, %s after its start", how, when, e.After.Round(time.Millisecond))
	what += e.words()
	return e.text(what, nil)
}

// NotReadyError says that a running engine did not become ready, that what answered was not fit to be called so, or that a
// ready engine cannot serve any more.
type NotReadyError struct {
	Failure
	Last  string        // what the engine said last, such as "503 Service Unavailable"
	After time.Duration // since the start
	Ready bool          // it was ready before
	Err   error
}

func (e *NotReadyError) Error() string {
	what := fmt.Sprintf("not ready after %s", e.After.Round(time.Millisecond))
	if e.Ready {
		what = fmt.Sprintf("no longer ready, %s after its start", e.After.Round(time.Millisecond))
	}
	if e.Last != "" {
		what += fmt.Sprintf(" (last answer: %s)", e.Last)
	}
	return e.text(what, e.Err)
}
func (e *NotReadyError) Unwrap() error { return e.Err }

// GPUError says that the GPUs that a replica requires are not there or not usable.
type GPUError struct {
	Device string // index, UUID or address; "" when it is about all of them
	Err    error
	Advice string
}

func (e *GPUError) Error() string { return (*gpu.Error)(e).Error() }
func (e *GPUError) Unwrap() error { return e.Err }

// failureOf is the Failure that an error wraps; nil when there is none.
func failureOf(err error) *Failure {
	failure, _ := errors.AsType[*Failure](err)
	return failure
}

// told is an error as results encode it.
func told(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// causeOf is the cause that an error of a launch tells.
func causeOf(err error) engine.Cause {
	var failure *Failure
	var config *ConfigError
	var gpu *GPUError
	switch {
	case errors.As(err, &config):
		return engine.CauseBadFlag
	case errors.As(err, &gpu):
		return engine.CauseDriver
	case errors.As(err, &failure):
		return failure.Cause
	}
	return engine.CauseUnknown
}

// LockedError says who manages the state directory.
type LockedError struct {
	StateDir string
	PID      int    // 0 when the holder could not be read
	Host     string // where the holder runs: a state directory on a network disk may be another machine's
}

func (e *LockedError) Error() string {
	holder := "another manager"
	if e.PID > 0 {
		holder = fmt.Sprintf("the manager with pid %d on %q", e.PID, e.Host)
	}
	return fmt.Sprintf("cannot manage %q: %s holds it; stop that one, or choose another \"state_dir\"", e.StateDir, holder)
}

func (e *LockedError) Unwrap() error { return ErrLocked }

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
	f := Failure{Replica: p.cfg.Name()}
	if start, ok := errors.AsType[*StartError](err); ok {
		start.Replica, start.Retry = f.Replica, diagnosis.Retryable(start.Cause)
		return start
	}
	if refused, ok := errors.AsType[*launch.Error](err); ok {
		if refused.Cause == engine.CauseDriver {
			return &GPUError{Err: err, Advice: refused.Advice}
		}
		f.Cause, f.Advice = refused.Cause, refused.Advice
	} else {
		found := diagnosis.OfStart(err, p.cfg.Provisioning.Package != nil)
		f.Cause, f.Advice, f.LogTail, f.LogPath = found.Cause, found.Advice, found.LogTail, found.LogPath
		err = access.Explain(err)
	}
	f.Retry = diagnosis.Retryable(f.Cause)
	return &StartError{Failure: f, Err: err}
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
