package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

// patience bounds waits; it is long because it ends only tests that fail anyway.
const patience = 2 * time.Minute

// newBase makes a cgroup to play in, below the root of the hierarchy.
func newBase(t *testing.T) Base {
	t.Helper()
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	_, mount, err := own(string(self), string(mountinfo))
	if err != nil {
		host.Skip(t, err.Error())
	}
	path, err := os.MkdirTemp(mount, "ep-test-")
	if err != nil {
		host.Skip(t, "needs root and a cgroup v2: "+err.Error())
	}
	t.Cleanup(func() {
		if err := (&Group{Path: path}).Remove(); err != nil {
			t.Error(err)
		}
	})
	return Base{path}
}

func TestGroupKillsWhatHasWandered(t *testing.T) {
	t.Parallel()
	g := newBase(t).Group("engine")
	if err := g.Create(); err != nil {
		t.Fatal(err)
	}
	if err := g.Create(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	dir, err := os.Open(g.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	// A worker in a session of its own, with an empty environment, whose parent is gone.
	cmd := exec.Command("/bin/sh", "-c", `env -i setsid sleep 600 & exec sleep 600`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); len(g.Processes()) != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("processes: %v", g.Processes())
		}
	}
	if !g.Populated() || !slices.Contains(g.Processes(), cmd.Process.Pid) {
		t.Errorf("populated: %t, processes: %v", g.Populated(), g.Processes())
	}
	if err := os.Remove(g.Path); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a living group was removed: %v", err)
	}
	if err := Open(g.Path).Kill(); err != nil {
		t.Fatal(err)
	}
	// The leader is not reaped yet: a zombie does not populate a group.
	for deadline := time.Now().Add(patience); g.Populated(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still populated: %v", g.Processes())
		}
	}
	_ = cmd.Wait()
	if ws, _ := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
		t.Errorf("the leader ended by %v", cmd.ProcessState)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

func TestDelegatedGoesByTheMark(t *testing.T) {
	t.Parallel()
	base := newBase(t)
	sub := base.Group("manager")
	if err := sub.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sub.Remove(); err != nil {
			t.Error(err)
		}
	})
	mount := filepath.Dir(base.Path)
	if _, err := delegated(sub.Path, mount); !errors.Is(err, errNotDelegated) {
		t.Errorf("without a mark: %v", err)
	}
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if err := unix.Setxattr(base.Path, name, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{base.Path, sub.Path} {
			if got, err := delegated(dir, mount); err != nil || got != base {
				t.Errorf("%s at %s: %v, %v", name, dir, got, err)
			}
		}
		if err := unix.Setxattr(base.Path, name, []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := delegated(mount, mount); !errors.Is(err, errNotDelegated) {
		t.Errorf("the root: %v", err)
	}
}
