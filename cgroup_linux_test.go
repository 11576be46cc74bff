package provisioner

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/settings"
)

func withCgroup(path string) Option {
	return func(o *options) { o.cgroup = func() (cgroup.Base, error) { return cgroup.Base{Path: path}, nil } }
}

// newCgroup makes a cgroup for engines; it must be empty when the test ends.
func newCgroup(t *testing.T) string {
	t.Helper()
	mount := "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
		mount = filepath.Join(mount, "unified") // beside version 1
	}
	path, err := os.MkdirTemp(mount, "ep-test-")
	if err != nil {
		skip(t, "needs root and a cgroup v2: "+err.Error())
	}
	t.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

// wanderer is a worker that nothing but a cgroup holds: a session of its own, no environment, nothing open.
var wanderer = enginetest.Child{Kind: enginetest.DoubleFork, ClearEnv: true, CloseFDs: true, IgnoreTerm: true}

func TestCgroupHoldsTheTree(t *testing.T) {
	t.Parallel()
	base := newCgroup(t)
	p, j := ready(t, fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{wanderer}}), withCgroup(base))
	rec, err := readRecord(p.run.files)
	if err != nil || filepath.Dir(rec.Cgroup) != base || !strings.HasSuffix(rec.Cgroup, "engine-pool-r0-"+rec.LaunchID) {
		t.Fatalf("record: cgroup %q (%v)", rec.Cgroup, err)
	}
	worker := enginetest.Inspect(t, p.handoff.URL).Children[0]
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if alive(worker) {
		t.Error("the worker lives")
	}
	if !strings.Contains(j.notes(), "killed 1 process that has outlived the engine") {
		t.Errorf("notes: %q", j.notes())
	}
	nothingLeft(t, p)
}

// TestCgroupIsFoundByTheRecord stops, through another provisioner, an engine whose leader is gone.
func TestCgroupIsFoundByTheRecord(t *testing.T) {
	t.Parallel()
	base := newCgroup(t)
	cfg := fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{wanderer}})
	p, _ := ready(t, cfg, withCgroup(base))
	report := enginetest.Inspect(t, p.handoff.URL)
	p.Release()
	if err := syscall.Kill(report.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the leader is dead", func() bool { return !alive(report.PID) })
	again, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if alive(report.Children[0]) {
		t.Error("the worker lives")
	}
	nothingLeft(t, again)
}

func TestStartRemovesTheCgroupOfADeadLaunch(t *testing.T) {
	t.Parallel()
	base := newCgroup(t)
	cfg := fakeConfig(t, enginetest.Behavior{})
	p, _ := ready(t, cfg, withCgroup(base))
	pid, old := p.Status().PID, p.run.rec.Cgroup
	p.Release()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the engine is dead", func() bool { return !alive(pid) })
	again, _ := ready(t, cfg, withCgroup(base))
	if _, err := os.Stat(old); err == nil {
		t.Error("the old cgroup is left")
	}
	if err := again.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, again)
}

func TestFailedStartLeavesNoCgroup(t *testing.T) {
	t.Parallel()
	base := newCgroup(t)
	cfg := fakeConfig(t, enginetest.Behavior{})
	// Good enough to be asked for its version, and gone when it is to be run.
	path := cfg.Provisioning.Binary.Path
	p, _ := newLaunch(t, cfg, withCgroup(base), WithEventFunc(func(Event) {}))
	if _, err := p.Prepare(bounded(t)); err != nil {
		t.Fatal(err)
	}
	p.opts.cgroup = func() (cgroup.Base, error) { return cgroup.Base{Path: base}, os.Remove(path) }
	if err := p.Start(bounded(t)); err == nil || errors.Is(err, ErrBusy) {
		t.Fatalf("Start: %v", err)
	}
}

// TestNoCgroupNoHarm uses a folder that is no cgroup: the kernel refuses to start a process there.
func TestNoCgroupNoHarm(t *testing.T) {
	t.Parallel()
	p, j := ready(t, fakeConfig(t, enginetest.Behavior{}), withCgroup(t.TempDir()))
	if p.run.rec.Cgroup != "" || !strings.Contains(j.notes(), "no cgroup of its own") {
		t.Errorf("cgroup %q, notes %q", p.run.rec.Cgroup, j.notes())
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

// TestKillsAreExplainedByTheKernel goes by memory.events of the delegated cgroup.
func TestKillsAreExplainedByTheKernel(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after    string // "" leaves the file out
		cause    engine.Cause
		evidence string
		advice   string
	}{
		"out of memory": {"oom 1\noom_kill 3\n", engine.CauseOOMHost, "oom_kill rose by 1 in ", "the kernel ended it for lack of memory"},
		"somebody":      {"oom 0\noom_kill 2\n", engine.CauseUnknown, "", "look for who sent SIGKILL"},
		"no delegation": {"", engine.CauseUnknown, "", "not for lack of memory by the kernel's count"}, // by that of the machine
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			machine := cgroup.WatchMachineOOM()
			events := filepath.Join(base, "memory.events")
			write := func(text string) {
				if err := os.WriteFile(events, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.after != "" {
				write("oom 0\noom_kill 2\n")
			}
			p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}), withCgroup(base))
			if c.after != "" {
				write(c.after)
			}
			if err := syscall.Kill(p.Status().PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			awaitDone(t, p)
			var exit *ExitError
			if !errors.As(p.Err(), &exit) {
				t.Fatalf("error: %v", p.Err())
			}
			if kills, _, known := machine.Kills(); c.after == "" && (!known || kills > 0) {
				return // such a kernel, or memory really ran out meanwhile
			}
			if exit.Cause != c.cause || !strings.HasPrefix(exit.Evidence, c.evidence) || !strings.Contains(exit.Advice, c.advice) {
				t.Errorf("cause %q, evidence %q, advice %q", exit.Cause, exit.Evidence, exit.Advice)
			}
			if !exit.Retry {
				t.Error("no retry")
			}
		})
	}
}

func TestStopTakesTheWholeCgroup(t *testing.T) {
	t.Parallel()
	base := newCgroup(t)
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{IgnoreTerm: true, Children: []enginetest.Child{wanderer}}), withCgroup(base))
	report := enginetest.Inspect(t, p.handoff.URL)
	p.run.rec.Grace = settings.Duration(10 * time.Millisecond)
	if err := p.Stop(bounded(t)); !errors.Is(err, ErrKilled) {
		t.Errorf("Stop: %v", err)
	}
	if alive(report.PID) || alive(report.Children[0]) {
		t.Error("something lives")
	}
	nothingLeft(t, p)
}
