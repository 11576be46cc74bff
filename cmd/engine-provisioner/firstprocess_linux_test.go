package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// As the first process of a container the command reaps what loses its parents, passes signals on, and ends with the status
// of its work.
func TestFirstProcess(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a pid namespace")
	}
	path, _ := poolsFile(t, 1)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), `path: "`)
	engine, _, _ := strings.Cut(after, `"`)
	wrapper := filepath.Join(filepath.Dir(path), "llama-server")
	// Each of these loses its parent, and ends.
	script := "#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8; do sh -c 'sleep 0.01 &'; done\nexec " + engine + " \"$@\"\n"
	syscall.ForkLock.RLock() // see golang/go#22315
	err = errors.Join(os.WriteFile(wrapper, []byte(script), 0o700),
		os.WriteFile(path, []byte(strings.Replace(string(text), engine, wrapper, 1)), 0o600))
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, nil, "--config", path)
	self := filepath.Join(filepath.Dir(path), "engine-provisioner") // by this name the test binary becomes the command
	if err := os.Symlink(cmd.Path, self); err != nil {
		t.Fatal(err)
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args = []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc", self, "--config", path}
	cmd.Path = unshare
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, " ready ") {
		t.Fatalf("%q, %v", line, err)
	}
	childrenOf := func(pid int) (children []procfs.Stat) {
		all, err := procfs.Processes()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if s.PPID == pid {
				children = append(children, s)
			}
		}
		return children
	}
	first := childrenOf(cmd.Process.Pid)
	if len(first) != 1 {
		t.Fatalf("%+v", first)
	}
	// The work, and nobody else: those that have lost their parents are gone.
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		children := childrenOf(first[0].PID)
		if len(children) == 1 && !children[0].Dead() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("children of the first process: %+v", children)
		}
	}
	if err := syscall.Kill(first[0].PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// A wrong command line has its own status, through the first process too.
func TestFirstProcessEndsAsItsWork(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a pid namespace")
	}
	cmd := command(t, nil)
	self := filepath.Join(t.TempDir(), "engine-provisioner")
	if err := os.Symlink(cmd.Path, self); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("unshare", "--pid", "--fork", "--mount-proc", self, "--config", "/nothing/here").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitUsage || !strings.Contains(string(out), "/nothing/here") {
		t.Errorf("%v: %s", err, out)
	}
}
