package provisioner

import (
	"cmp"
	"fmt"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/lastwords"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/launch"
)

// exitError says that the engine ended by itself. What was ready can be so again, whatever it ended of.
func (r *run) exitError(exit launch.Exit, ready bool) *ExitError {
	lines := r.lastLines()
	found := r.findExitCause(exit, ready, lines)
	f := r.failure(found.cause, found.evidence, lines)
	f.Advice = cmp.Or(found.advice, f.Advice)
	f.Retry = f.Retry || ready
	if f.Cause == engine.CausePortInUse && r.rec.Launch.Mode != modeContainer { // there the port is the container's own
		r.explainBind(&f)
	}
	if f.Cause == engine.CauseUnknown {
		explainExit(&f, exit, r.rec.Launch.Spec.KillsItself)
	}
	r.explainFiles(&f, exit)
	if f.Cause == engine.CauseUnknown && !ready && r.asked.Load() {
		f.Cause, f.Advice = engine.CauseCannotAnswer, r.advice(engine.CauseCannotAnswer)
	}
	e := &ExitError{Failure: f, Code: -1, Signal: exit.Signal, Ready: ready, After: time.Since(r.started)}
	if exit.Known {
		e.Code = exit.Code
	}
	return e
}

// maxFarewell is how many lines an engine that was ready may say after the error that it ended of: vLLM says how it shuts
// down, and answers its clients. An older error is another matter.
const maxFarewell = 20

// findExitCause reads the cause from the log. What a signal ends says nothing of it, and its last words are of
// something else, unless they are an error.
func (r *run) findExitCause(exit launch.Exit, ready bool, lines []string) finding {
	spec := r.rec.Launch.Spec
	patterns := spec.Causes
	if ready {
		patterns = ofReady(patterns)
	}
	block := lastwords.Last(lines)
	silent := saysNothing(exit) && !spec.KillsItself
	if silent && block.After > 0 || ready && block.After > maxFarewell {
		block = lastwords.Block{}
	}
	if silent && ready {
		lines = block.Lines
	}
	return findCause(lines, patterns, block)
}

// saysNothing reports whether a signal ended the process that lets it say nothing. Whoever aborts has said why.
func saysNothing(e launch.Exit) bool { return e.Signal != "" && e.Signal != "aborted" }

// explainExit takes what the log leaves unknown for lack of memory if the kernel says so, or where nothing else is known
// of a SIGKILL that nobody here sent: on a Linux node that is the kernel's out-of-memory killer, or an operator. Of an
// engine that kills itself, such an end says nothing.
func explainExit(f *Failure, e launch.Exit, killsItself bool) {
	const sigkill = 128 + 9 // as a shell tells it that did not exec
	killed := (e.Signal == "killed" || e.Known && e.Code == sigkill) && !killsItself
	switch {
	case e.OOM != "" && (killed || !e.OOMShared): // when a worker is killed, its leader ends in a way of its own
		f.Cause, f.Retry = engine.CauseOOMHost, true
		f.Evidence = e.OOM
		f.Advice = "the kernel ended it for lack of memory; " + adviceFor(engine.CauseOOMHost)
	case killed && e.NotOOM:
		f.Advice = "it was killed from outside, and not for lack of memory by the kernel's count; look for who sent SIGKILL: a person, a script, or a killer such as systemd-oomd"
	case killed:
		f.Cause, f.Retry = engine.CauseOOMHost, true
		f.Advice = "it was killed from outside, most likely for lack of memory (see dmesg); " + adviceFor(engine.CauseOOMHost)
	}
}

// explainFiles tells of files that were changed while the engine had them mapped: what is cut short ends it by SIGBUS,
// and what is still being copied reads as damaged.
func (r *run) explainFiles(f *Failure, exit launch.Exit) {
	const sigbus = 128 + 7 // as a shell tells it that did not exec
	bus := exit.Signal == "bus error" || exit.Known && exit.Code == sigbus
	untold := !exit.Known && f.Cause == engine.CauseUnknown // another's child
	if !bus && !untold && f.Cause != engine.CauseModelCorrupt {
		return
	}
	changed := filestamp.Changed(r.rec.Launch.Files)
	switch {
	case untold && changed != "":
		f.Advice = "how it ended is not known; since its start, " + changed + ", and a model that is cut short while it is in use ends its engine"
	case changed != "":
		f.Cause, f.Retry = engine.CauseModelCorrupt, true
		f.Evidence = "since the start, " + changed
		f.Advice = "do not write into a model that is in use: put the new one beside it and rename it (mv) when it is complete"
	case bus && f.Cause == engine.CauseUnknown:
		f.Advice = "a file that it had mapped was cut short or cannot be read (a full /dev/shm, a disk or mount that failed); see dmesg"
	}
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
