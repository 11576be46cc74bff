// Package diagnosis tells why an engine did not start, or ended, and what to do about it: from the error of who was to get or to
// ask something; from its log, its exit, and the files that it had open.
//
// The launch calls it, with what it has gathered. It asks nobody and starts nothing; it looks at no file but for the size and time
// of those that an engine read its model from.
package diagnosis

import (
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/lastwords"
)

// Exit is how the process of an engine ended; see launch.Exit.
type Exit struct {
	Known  bool
	Code   int
	Signal string

	OOM       string
	OOMShared bool
	NotOOM    bool
}

// saysNothing reports whether a signal ended the process that lets it say nothing. Whoever aborts has said why.
func (e Exit) saysNothing() bool { return e.Signal != "" && e.Signal != "aborted" }

// maxFarewell is how many lines an engine that was ready may say after the error that it ended of: vLLM says how it shuts
// down, and answers its clients. An older error is another matter.
const maxFarewell = 20

// OfLog reads the cause from the last lines of a log. What a signal ends says nothing of it, and its last words are of
// something else, unless they are an error.
func OfLog(lines []string, exit Exit, spec engine.LaunchSpec, ready bool) Finding {
	patterns := spec.Causes
	if ready {
		patterns = OfReady(patterns)
	}
	block := lastwords.Last(lines)
	silent := exit.saysNothing() && !spec.KillsItself
	if silent && block.After > 0 || ready && block.After > maxFarewell {
		block = lastwords.Block{}
	}
	if silent && ready {
		lines = block.Lines
	}
	return Find(lines, patterns, block)
}

// ByExit takes what the log leaves unknown for lack of memory if the kernel says so, or where nothing else is known
// of a SIGKILL that nobody here sent: on a Linux node that is the kernel's out-of-memory killer, or an operator. Of an
// engine that kills itself, such an end says nothing.
func (f *Finding) ByExit(e Exit, killsItself bool) {
	if f.Cause != engine.CauseUnknown {
		return
	}
	const sigkill = 128 + 9 // as a shell tells it that did not exec
	killed := (e.Signal == "killed" || e.Known && e.Code == sigkill) && !killsItself
	switch {
	case e.OOM != "" && (killed || !e.OOMShared): // when a worker is killed, its leader ends in a way of its own
		f.Cause, f.Retry = engine.CauseOOMHost, true
		f.Evidence = e.OOM
		f.Advice = "the kernel ended it for lack of memory; " + Advice(engine.CauseOOMHost)
	case killed && e.NotOOM:
		f.Advice = "it was killed from outside, and not for lack of memory by the kernel's count; look for who sent SIGKILL: a person, a script, or a killer such as systemd-oomd"
	case killed:
		f.Cause, f.Retry = engine.CauseOOMHost, true
		f.Advice = "it was killed from outside, most likely for lack of memory (see dmesg); " + Advice(engine.CauseOOMHost)
	}
}

// ByFiles tells of files that were changed while the engine had them mapped: what is cut short ends it by SIGBUS,
// and what is still being copied reads as damaged. files are as they were at the start.
func (f *Finding) ByFiles(e Exit, files []filestamp.Stamp) {
	const sigbus = 128 + 7 // as a shell tells it that did not exec
	bus := e.Signal == "bus error" || e.Known && e.Code == sigbus
	untold := !e.Known && f.Cause == engine.CauseUnknown // another's child
	if !bus && !untold && f.Cause != engine.CauseModelCorrupt {
		return
	}
	changed := filestamp.Changed(files)
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
