package diagnosis

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"syscall"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/binary"
	"github.com/llama-orch/engine-provisioner/internal/fit"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/tool"
)

// Unstarted is why nothing was started, as far as an error tells.
type Unstarted struct {
	Cause   engine.Cause
	Advice  string
	LogTail []string // what the program said that was asked
	LogPath string   // of a build
}

// OfStart reads from an error of a start, or of what has to be got before it, why that failed. installs says that an installer of
// Python packages is at work, which only says that it is offline.
func OfStart(err error, installs bool) Unstarted {
	f := Unstarted{Cause: engine.CauseUnknown}
	var taken *port.Error
	var executable *binary.Error
	var asked *tool.AskError
	var model *models.Error
	var memory *fit.LackError
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
		if f.LogPath != "" || build.Retry && installs {
			f.Advice = Advice(f.Cause)
		}
	case errors.As(err, &asked) && asked.Deaf():
		f.LogTail = asked.Lines
		f.Advice = "is it this engine's executable? A machine that is busy, or a disk that is far away, can make it that slow as well: then try again"
	case Transient(err):
		f.Advice = "the machine is out of processes, memory or open files, or too slow to ask the executable; try again later"
	case errors.As(err, &key):
		f.Cause = engine.CauseUnauthorized
	case errors.As(err, &taken):
		f.Cause, f.Advice = taken.Reason.Cause(), taken.Advice
	case errors.As(err, &model):
		f.Cause = engine.Cause(model.Fault)
	case errors.As(err, &memory):
		f.Cause = memory.Cause()
		f.Advice = cmp.Or(memory.Advised[f.Cause], Advice(f.Cause)) + `; "fit: warn" tries all the same`
	case errors.As(err, &asked):
		f.LogTail = asked.Lines
		f.Cause = engine.CauseLibMissing
		f.Advice = Advice(engine.CauseLibMissing)
		if asked.Problem != "" {
			f.Advice = AdviceExecutable
		}
	case errors.As(err, &executable):
		f.Cause = engine.CauseLibMissing
	}
	var network net.Error
	if f.Cause == engine.CauseDownload && f.Advice == "" && errors.As(err, &network) {
		f.Advice = Advice(engine.CauseDownload)
	}
	return f
}

// Transient reports whether err says that the machine is too busy, which is not the executable's fault.
func Transient(err error) bool {
	return slices.ContainsFunc([]error{
		syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, context.DeadlineExceeded,
	}, func(busy error) bool { return errors.Is(err, busy) })
}
