package procfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

// child starts a process that lives until the test ends, and returns when it runs.
func child(t *testing.T, env ...string) int {
	t.Helper()
	cmd := exec.Command("cat") // ends with its input
	cmd.Env = env
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	// Start returns in the middle of the exec, when neither the name nor the environment is there yet; an answer comes after.
	if _, err := io.WriteString(in, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestReadStat(t *testing.T) {
	t.Parallel()
	self, err := ReadStat(os.Getpid())
	if err != nil || self.PID != os.Getpid() || self.PPID != os.Getppid() || self.PGID != syscall.Getpgrp() || self.RSSPages <= 0 {
		t.Errorf("of this process: %+v (%v)", self, err)
	}
	pid := child(t)
	s, err := ReadStat(pid)
	if err != nil || s.Comm != "cat" || s.PPID != os.Getpid() || s.Dead() || s.StartTicks < self.StartTicks ||
		s.VirtBytes == 0 || s.EnvEnd == 0 {
		t.Errorf("of a child: %+v (%v)", s, err)
	}
	if _, err := ReadStat(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no process: %v", err)
	}
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	pid := child(t)
	all, err := Processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{pid, os.Getpid()} {
		if !slices.ContainsFunc(all, func(s Stat) bool { return s.PID == want }) {
			t.Errorf("%d is missing", want)
		}
	}
}

func TestHasEnv(t *testing.T) {
	t.Parallel()
	pid := child(t, "FIRST=1", "MARK=abc", "EMPTY=", "LAST=a b\nc")
	for entry, want := range map[string]bool{
		"FIRST=1": true, "MARK=abc": true, "EMPTY=": true, "LAST=a b\nc": true,
		"MARK=ab": false, "MARK=abcd": false, "ARK=abc": false, "MARK": false, "OTHER=": false,
	} {
		if HasEnv(pid, entry) != want {
			t.Errorf("%q: %v", entry, !want)
		}
	}
	if HasEnv(1<<30, "MARK=abc") {
		t.Error("no process has a variable")
	}
}

// A process in the middle of its exec shows no environment. One round of a hundred met that before HasEnv waited.
func TestHasEnvDuringExec(t *testing.T) {
	t.Parallel()
	for range 300 {
		cmd := exec.Command("cat")
		cmd.Env = []string{"MARK=abc"}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		marked := HasEnv(cmd.Process.Pid, "MARK=abc")
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if !marked {
			t.Fatal("the mark was not seen")
		}
	}
	// Without an environment there is nothing to wait for.
	pid := child(t, []string{}...)
	start := time.Now()
	if HasEnv(pid, "MARK=abc") || time.Since(start) > execPatience/2 {
		t.Errorf("a process without an environment was waited for, %s", time.Since(start))
	}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	pid := child(t, "FIRST=1", "MARK=abc", "EMPTY=")
	for name, want := range map[string]string{"FIRST": "1", "MARK": "abc", "EMPTY": ""} {
		if got, ok := Env(pid, name); got != want || !ok {
			t.Errorf("%s: %q, %t", name, got, ok)
		}
	}
	if got, ok := Env(pid, "MAR"); ok {
		t.Errorf("a part of a name is %q", got)
	}
	if _, ok := Env(1<<30, "MARK"); ok {
		t.Error("no process has a variable")
	}
}

func TestHoldsFile(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if !HoldsFile(os.Getpid(), info) {
		t.Error("this process does not hold its file")
	}
	if HoldsFile(child(t), info) {
		t.Error("a child that inherited nothing holds it")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if HoldsFile(os.Getpid(), info) || HoldsFile(1<<30, info) {
		t.Error("a closed file is held")
	}
}

func TestListenersAndHoldsSocket(t *testing.T) {
	t.Parallel()
	for _, network := range []struct{ name, listen, ask string }{
		{"IPv4", "127.0.0.1:0", "127.0.0.1"},
		{"any address of IPv4", "0.0.0.0:0", "127.0.0.1"},
		{"IPv6", "[::1]:0", "::1"},
		{"any address", "[::]:0", "127.0.0.1"},
	} {
		t.Run(network.name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", network.listen)
			if err != nil && strings.Contains(network.listen, "::") {
				host.Skip(t, "no IPv6 here: "+err.Error())
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			port := uint16(l.Addr().(*net.TCPAddr).Port)
			inodes, err := Listeners(os.Getpid(), netip.MustParseAddr(network.ask), port)
			if err != nil || len(inodes) == 0 {
				t.Fatalf("nothing listens on %s (%v)", l.Addr(), err)
			}
			if !HoldsSocket(os.Getpid(), inodes) {
				t.Errorf("%v is not held by this process", inodes)
			}
			if HoldsSocket(os.Getpid(), []uint64{inodes[0] + 1<<40}) || HoldsSocket(os.Getpid(), nil) {
				t.Error("this process holds a socket that does not exist")
			}
			if pid := child(t); HoldsSocket(pid, inodes) {
				t.Error("a child that inherited nothing holds it")
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			// A fork elsewhere in this program holds a copy of the socket until its exec.
			for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
				left, err := Listeners(os.Getpid(), netip.MustParseAddr(network.ask), port)
				if err == nil && !slices.Contains(left, inodes[0]) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("after Close: %v (%v)", left, err)
				}
			}
		})
	}
	if _, err := Listeners(1<<30, netip.MustParseAddr("127.0.0.1"), 1); err == nil {
		t.Error("no process has no sockets")
	}
	if HoldsSocket(1<<30, []uint64{1}) {
		t.Error("no process holds a socket")
	}
}

func TestBootIDAndPIDNamespace(t *testing.T) {
	t.Parallel()
	boot, err := BootID()
	if err != nil || len(boot) != 36 || bytes.ContainsAny([]byte(boot), " \n") {
		t.Errorf("boot id %q (%v)", boot, err)
	}
	ns, err := PIDNamespace()
	if err != nil || !strings.HasPrefix(ns, "pid:[") {
		t.Errorf("namespace %q (%v)", ns, err)
	}
}

func TestPrintsTo(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("cat")
	cmd.Stderr = f
	in, err := cmd.StdinPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	if !PrintsTo(cmd.Process.Pid, log) {
		t.Error("it prints to the log, and is not seen to")
	}
	if PrintsTo(os.Getpid(), log) {
		t.Error("to have the file open is not to print to it")
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
	if PrintsTo(cmd.Process.Pid, log) || PrintsTo(os.Getpid(), log+"x") {
		t.Error("neither a dead process nor a missing file says anything")
	}
}

func TestUsesPort(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		port := uint16(l.Addr().(*net.TCPAddr).Port)
		if used, err := UsesPort(port); err != nil || !used {
			t.Errorf("%s listens, and its port is used: %v (%v)", l.Addr(), used, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if used, err := UsesPort(0); err != nil || used {
		t.Errorf("port 0 is used: %v (%v)", used, err)
	}
}
