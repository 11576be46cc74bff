package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/test/wait"
)

// terminal is a pseudo-terminal with a program on it.
type terminal struct {
	master, slave *os.File
	cmd           *exec.Cmd
	ended         chan error

	mu    sync.Mutex
	wrote bytes.Buffer
}

func newTerminal(t *testing.T, rows, columns uint16, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	x := &terminal{master: master, slave: slave, cmd: command(t, []string{"TERM=xterm-256color"}, args...), ended: make(chan error, 1)}
	x.resize(t, rows, columns)
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = slave, slave, slave
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	go func() {
		buffer := make([]byte, 32<<10)
		for {
			n, err := master.Read(buffer)
			x.mu.Lock()
			x.wrote.Write(buffer[:n])
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return x
}

func (x *terminal) start(t *testing.T) {
	t.Helper()
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { x.ended <- x.cmd.Wait() }()
	t.Cleanup(func() { _ = x.cmd.Process.Kill() })
}

func (x *terminal) resize(t *testing.T, rows, columns uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
}

// screen is all that was written so far.
func (x *terminal) screen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.wrote.String()
}

// sees waits for a text that was written since the last call.
func (x *terminal) sees(t *testing.T, text string) {
	t.Helper()
	wait.Until(t, "the screen shows "+text, func() bool { return strings.Contains(x.screen(), text) })
	x.mu.Lock()
	x.wrote.Reset()
	x.mu.Unlock()
}

func (x *terminal) keys(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(x.master, keys); err != nil {
		t.Fatal(err)
	}
}

// TestTop shows a replica on a terminal, stops it by a key, and leaves the terminal as it was, whatever ends it.
func TestTop(t *testing.T) {
	t.Parallel()
	config, _ := poolsFile(t, 2)
	manager := command(t, nil, "--config", config)
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	status := func() []provisioner.Status {
		loaded, err := provisioner.LoadConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		replicas, _ := loaded.Replicas("")
		all, _ := fleet.Statuses(replicas[0].StateDir)
		return all
	}
	ready := func(n int) bool {
		for _, s := range status() {
			if s.State == provisioner.StateReady {
				n--
			}
		}
		return n == 0
	}
	wait.Until(t, "both are ready", func() bool { return ready(2) })
	for _, end := range []string{"q", "\x03", "SIGTERM"} {
		x := newTerminal(t, 24, 100, "top", "--config", config)
		before, err := unix.IoctlGetTermios(int(x.slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		x.start(t)
		x.sees(t, "2 ready")
		x.resize(t, 8, 50)
		x.sees(t, "r0")
		x.keys(t, "s")
		x.sees(t, "r0? y does")
		x.keys(t, "y")
		x.sees(t, "1 stopped")
		wait.Until(t, "one is left", func() bool { return ready(1) })
		x.keys(t, "a")
		x.sees(t, "r0? y does")
		x.keys(t, "y")
		x.sees(t, "2 ready")
		if end == "SIGTERM" {
			if err := x.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		} else {
			x.keys(t, end)
		}
		select {
		case err := <-x.ended:
			if err != nil {
				t.Errorf("%q: %v", end, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%q does not end it", end)
		}
		after, err := unix.IoctlGetTermios(int(x.slave.Fd()), unix.TCGETS)
		if err != nil || *after != *before {
			t.Errorf("%q: the terminal is %+v (%v), was %+v", end, after, err, before)
		}
		wait.Until(t, "the screen of before is back", func() bool { return strings.Contains(x.screen(), "\x1b[?1049l") })
		if !ready(2) {
			t.Errorf("%q: the engines were not left alone: %+v", end, status())
		}
	}
	if err := errors.Join(manager.Process.Signal(syscall.SIGTERM), manager.Wait()); err != nil {
		t.Errorf("the manager: %v", err)
	}
}

func TestTopNeedsATerminal(t *testing.T) {
	t.Parallel()
	config, _ := poolsFile(t, 1)
	cmd := command(t, nil, "top", "--config", config)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != exitUsage || !strings.Contains(out.String(), `"top" needs a terminal`) {
		t.Errorf("%v: %s", err, out.String())
	}
}
