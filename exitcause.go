package provisioner

import (
	"cmp"
	"fmt"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/launch"
)

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
