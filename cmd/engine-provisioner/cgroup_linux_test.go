package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// delegatedCgroup is a cgroup with the mark that systemd puts on what it delegates.
func delegatedCgroup(t *testing.T) *os.File {
	t.Helper()
	mount := "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
		mount = filepath.Join(mount, "unified") // beside version 1
	}
	path, err := os.MkdirTemp(mount, "ep-test-")
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("needs root and a cgroup v2: %v", err)
	}
	if err != nil {
		t.Fatalf("cannot run, and CI must: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Setxattr(path, "trusted.delegate", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// TestDelegatedUnit plays a unit with Delegate=yes and KillMode=process: the manager is killed, its engine is not, and
// the next command ends it.
func TestDelegatedUnit(t *testing.T) {
	t.Parallel()
	dir := delegatedCgroup(t)
	inside := &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	config, port := poolsFile(t, 1)

	doctor := command(t, nil, "doctor", "--config", config)
	doctor.SysProcAttr = inside
	out, _ := doctor.Output() // its status is about GPUs, too
	if !strings.Contains(string(out), "cgroups: engines get their own below "+dir.Name()) {
		t.Errorf("doctor:\n%s", out)
	}

	manager := command(t, nil, "--config", config)
	manager.SysProcAttr = inside
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	handoff := filepath.Join(filepath.Dir(config), "elsewhere", "engines", "default-r0.json")
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(handoff); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("not ready")
		}
	}
	pid := enginetest.Inspect(t, fmt.Sprintf("http://127.0.0.1:%d", port)).PID
	member, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(member), filepath.Base(dir.Name())+"/engine-default-r0-") {
		t.Errorf("the engine's cgroups (%v):\n%s", err, member)
	}
	if err := manager.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = exitOf(t, manager)
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the engine died with its manager: %v", err)
	}
	if out, err := command(t, nil, "stop", "--config", config).Output(); err != nil {
		t.Errorf("stop: %v\n%s", err, out)
	}
	if left, err := filepath.Glob(filepath.Join(dir.Name(), "engine-*")); err != nil || len(left) > 0 {
		t.Errorf("cgroups left: %v (%v)", left, err)
	}
}
