package provisioner

import (
	"fmt"
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/ephemeral"
	"github.com/llama-orch/engine-provisioner/internal/exefile"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// portError says why an engine could not listen on a port.
type portError struct {
	port engine.Port
	port.Problem
}

func (e *portError) Error() string {
	what := fmt.Sprintf("port %d", e.port.Number)
	if e.port.Use != "" {
		what += ", for " + e.port.Use + ","
	}
	if e.Reason == port.Taken {
		return what + " is not free: " + e.Text
	}
	return "cannot listen on " + what + ": " + e.Text
}

// Unwrap tells what passes from what does not: a port is given back, an address or a right does not come by itself.
func (e *portError) Unwrap() error {
	if e.Reason == port.Taken {
		return ErrBusy
	}
	return e.Err
}

// portCause is the cause of a failed start for a reason.
func portCause(r port.Reason) engine.Cause {
	switch r {
	case port.Taken:
		return engine.CausePortInUse
	case port.NoAddress:
		return engine.CauseBadAddress
	case port.Forbidden:
		return engine.CausePortForbidden
	}
	return ""
}

// checkPort refuses a port that the engine could not listen on. An executable or a container's runtime may have rights that
// this program has not.
func (p *EngineProvisioner) checkPort(wanted engine.Port, executable string) error {
	problem, err := port.Try(p.cfg.Host, wanted.Number, ourEngine)
	switch {
	case err != nil:
		return fmt.Errorf("cannot listen on port %d: %w", wanted.Number, err)
	case problem.Reason == port.Free, problem.Reason == port.Forbidden && (p.cfg.contained() || exefile.HasCapabilities(executable)):
		return nil
	}
	return &portError{wanted, problem}
}

// explainBind says what the engine leaves out that could not listen: llama-server has one sentence for all reasons.
func (r *run) explainBind(f *Failure) {
	ports := append([]engine.Port{{Number: r.rec.Port}}, r.rec.Launch.Spec.Ports...)
	for _, wanted := range ports {
		problem, err := port.Try(r.rec.Host, wanted.Number, ourEngine)
		if err != nil || problem.Reason == port.Free {
			continue
		}
		f.Cause = portCause(problem.Reason)
		f.Retry = f.Retry && diagnosis.Retryable(f.Cause)
		f.Advice = (&portError{wanted, problem}).Error() + "; " + problem.Advice
		return
	}
	f.Advice = fmt.Sprintf("port %d is free by now; if that happens again, look at what else the engine needs to listen, such as the files of TLS", r.rec.Port)
}

// ourEngine tells a process of an engine of ours, of whichever state directory: whoever carries a launch's mark prints to
// its log.
func ourEngine(pid int) (what, advice string) {
	id, marked := procfs.Env(pid, proc.MarkEnv)
	dir := filepath.Dir(filepath.Dir(procfs.Output(pid))) // <state>/<replica>/logs/<n>.log
	if !marked || !filepath.IsAbs(dir) {
		return "", ""
	}
	files := state.In(filepath.Dir(dir), filepath.Base(dir))
	rec, err := readRecord(files)
	if err != nil || rec.LaunchID != id {
		return "", ""
	}
	return fmt.Sprintf("the engine %s/%s of the state directory %q", rec.Pool, rec.Replica, files.State),
		fmt.Sprintf(`stop that one (engine-provisioner stop --state-dir %s --pool %s), or change "port"`, files.State, rec.Pool)
}

// portNotes are the notes about the ports of a launch.
func portNotes(port int, beside []engine.Port) []string {
	ports := ephemeral.OfKernel()
	var all []string
	for _, p := range append([]engine.Port{{Number: port}}, beside...) {
		if note := ports.Note(p.Number); note != "" {
			all = append(all, note)
		}
	}
	return all
}
