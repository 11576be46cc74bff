package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// run is one engine that was started, by this provisioner or by an earlier one.
type run struct {
	files   replicaFiles
	rec     record   // as written when the engine started
	leader  *process // nil when only other processes of the tree are left
	tree    tree
	exited  chan struct{} // closed when the leader has ended; the tree may live on
	started time.Time

	oom         oomWatch
	killTimeout time.Duration // how long SIGKILL may take
	logs        *logKeeper    // nil until it is needed

	redact redactor
	key    secret // the API key; empty when the engine asks for none

	asked atomic.Bool // for a token: an engine that dies from now on may die of it

	noting sync.WaitGroup // the one noteShm that nobody waits for; it begins before the leader's end is seen
	shmMu  sync.Mutex
	shm    map[string]bool // objects below /dev/shm that the tree has mapped
}

// fail describes what went wrong with the engine, with its last words. cause is "" when the words shall tell.
func (r *run) fail(cause Cause) Failure {
	lines := r.redact.lines(tail.Lines(r.rec.Log))
	evidence := ""
	if cause == "" {
		cause, evidence = classify(lines, r.rec.Launch.Spec.Causes)
	}
	return Failure{
		Replica:  r.rec.Pool + "/" + r.rec.Replica,
		Cause:    cause,
		Evidence: tail.Cut(evidence),
		Advice:   r.advice(cause),
		Retry:    retryable(cause),
		LogTail:  tail.Last(lines),
		LogPath:  r.rec.Log,
	}
}

// advice is the engine's own on a cause, or the general one.
func (r *run) advice(cause Cause) string {
	return cmp.Or(r.rec.Launch.Spec.Advice[cause], adviceFor(cause))
}

// log is what the engine has said so far, without secrets.
func (r *run) log() []string { return r.redact.lines(tail.All(r.rec.Log)) }

// exitError says that the engine ended by itself.
func (r *run) exitError(exit exitStatus, ready bool) *ExitError {
	f := r.fail("")
	if f.Cause == CauseUnknown {
		r.oom.explain(&f, exit, r.rec.Launch.Spec.KillsItself)
	}
	if f.Cause == CauseUnknown && !ready && r.asked.Load() {
		f.Cause, f.Advice = CauseCannotAnswer, r.advice(CauseCannotAnswer)
	}
	e := &ExitError{Failure: f, Code: -1, Signal: exit.signal, Ready: ready, After: time.Since(r.started)}
	if exit.known {
		e.Code = exit.code
	}
	return e
}

// treeOf is the tree of a recorded launch, as far as it is known without its leader.
func treeOf(rec record) tree {
	return tree{launchID: rec.LaunchID, group: cgroup.Open(rec.Cgroup), past: pastLeader{rec.Process.PID, rec.Log}}
}

// oomWatch is what the kernel counts of its own kills for want of memory, where it counts them for this program.
type oomWatch struct {
	shared cgroup.OOM // of all engines below the delegated cgroup
	where  string     // the file; "" when nothing is counted
	own    bool       // it counts this engine alone
	kills  uint64
}

// look reads the counts of a launch that has ended, before its cgroup goes.
func (o *oomWatch) look(group *cgroup.Group) {
	var known bool
	if o.kills, o.where, known = group.OOMKills(); known {
		o.own = true
		return
	}
	if o.kills, o.where, known = o.shared.Kills(); !known {
		o.where = ""
	}
}

// explain takes what the log leaves unknown for want of memory if the kernel says so, or where nothing else is known
// of a SIGKILL that nobody here sent: on a Linux node that is the kernel's out-of-memory killer, or an operator. Of an
// engine that kills itself, such an end says nothing.
func (o *oomWatch) explain(f *Failure, exit exitStatus, killsItself bool) {
	killed := exit.signal == "killed" && !killsItself
	switch {
	case o.kills > 0 && (killed || o.own): // when a worker is killed, its leader ends in a way of its own
		f.Cause, f.Retry = CauseOOMHost, true
		f.Evidence = fmt.Sprintf("oom_kill rose by %d in %s", o.kills, o.where)
		f.Advice = "the kernel ended it for want of memory; " + adviceFor(CauseOOMHost)
	case killed && o.where != "":
		f.Advice = "it was killed from outside, and not for want of memory; look for who sent SIGKILL"
	case killed:
		f.Cause, f.Retry = CauseOOMHost, true
		f.Advice = "it was killed from outside, most likely for want of memory (see dmesg); " + adviceFor(CauseOOMHost)
	}
}

// progress is what shows that a load goes on.
type progress struct {
	logSize  int64
	cpuTicks uint64
	rssPages int64
}

func (r *run) progress() progress {
	var now progress
	if info, err := os.Stat(r.rec.Log); err == nil {
		now.logSize = info.Size()
	}
	members, _ := r.noteShm() // a load that dies leaves what it had mapped
	for _, m := range members {
		now.cpuTicks += m.CPUTicks
		now.rssPages += m.RSSPages
	}
	return now
}

// since reports whether now is further on than before, elapsed earlier. An engine that answers our probes with 503 for
// ever uses some CPU, too, so only more than 5 % of a core counts; and 1 MiB of memory.
func (now progress) since(before progress, elapsed time.Duration) bool {
	const tick = 10 * time.Millisecond
	minTicks := max(2, uint64(elapsed/tick/20))
	minPages := int64(1<<20) / int64(os.Getpagesize())
	return now.logSize != before.logSize || now.cpuTicks >= before.cpuTicks+minTicks || now.rssPages >= before.rssPages+minPages
}

// watchProgress cancels when nothing moves for limit, or when the engine says that it falls back to the CPU although
// the GPU is required: llama-server says so in its first milliseconds, and the load may take ten minutes more.
func (r *run) watchProgress(ctx context.Context, limit time.Duration, gpuRequired bool, cancel context.CancelCauseFunc) {
	interval := min(max(limit/10, 5*time.Millisecond), time.Second)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	last, at := progress{}, time.Now() // a load begins with nothing, and a short one need not pay for a look at /proc
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := r.progress()
		if gpuRequired && now.logSize != last.logSize {
			if line, ok := firstMatch(r.rec.Launch.Spec.NoGPU, r.log()); ok {
				cancel(onCPU(fmt.Errorf("the engine falls back to the CPU: %q", tail.Cut(line))))
				return
			}
		}
		switch quiet := time.Since(at); {
		case now.since(last, quiet):
			last, at = now, time.Now()
		case quiet >= limit:
			cancel(fmt.Errorf("%w for %s (no log line, no CPU time, no memory growth)", errStalled, limit))
			return
		}
	}
}

var (
	errStalled = errors.New("no progress")
	errTooLong = errors.New("the load took too long")
	errExited  = errors.New("the engine exited")
)

// noteShm remembers which objects below /dev/shm the tree has mapped: whoever is killed leaves them behind (vLLM 400 MB).
// It returns who the tree is.
func (r *run) noteShm() ([]procfs.Stat, error) {
	members, err := r.tree.members()
	r.shmMu.Lock()
	defer r.shmMu.Unlock()
	for _, m := range members {
		for _, path := range procfs.Shm(m.PID) {
			if r.shm == nil {
				r.shm = map[string]bool{}
			}
			r.shm[path] = true
		}
	}
	return members, err
}

// killAll sends SIGKILL to the whole tree, after a look at what it leaves behind, and returns how many there were.
func (r *run) killAll() (int, error) {
	members, err := r.noteShm()
	_ = r.tree.group.Kill() // at once, and whoever is being forked; what it cannot do, the next line does
	kill(members)
	return len(members), err
}

// removeShm unlinks those of the noted objects that were made since the launch and that no process has mapped.
func (r *run) removeShm() error {
	r.shmMu.Lock()
	defer r.shmMu.Unlock()
	if len(r.shm) == 0 {
		return nil
	}
	all, err := procfs.Processes()
	if err != nil {
		return err
	}
	for _, s := range all {
		for _, path := range procfs.Shm(s.PID) {
			delete(r.shm, path)
		}
	}
	for path := range r.shm {
		if filepath.Clean(path) == path && madeSince(path, r.rec.StartedAt) {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// tempPrefix begins the name of a launch's private temporary folder. It is short, because engines put unix sockets
// into it, and their paths must stay under 108 bytes.
const tempPrefix = "ep-"

// tempDir is where the temporary folder of a launch shall be. It is known before it exists, so that the record can name
// it first and no crash leaves a folder that nobody knows of.
func tempDir(launchID string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(os.TempDir(), tempPrefix+launchID[:12]))
	if err != nil {
		return "", fmt.Errorf("cannot find the temporary folder: %w", err)
	}
	return dir, nil
}

func (r *run) removeTemp() error {
	if !filepath.IsAbs(r.rec.TempDir) || len(filepath.Base(r.rec.TempDir)) <= len(tempPrefix) ||
		filepath.Base(r.rec.TempDir)[:len(tempPrefix)] != tempPrefix {
		return nil // not a folder that we made
	}
	return os.RemoveAll(r.rec.TempDir)
}
