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

	"github.com/charmbracelet/x/vt"
	"golang.org/x/sys/unix"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/test/wait"
)

// terminal is a pseudo-terminal with a program on it, and what it shows.
type terminal struct {
	master, slave *os.File
	cmd           *exec.Cmd
	ended         chan error

	mu   sync.Mutex
	emul *vt.Emulator
}

func newTerminal(t *testing.T, rows, columns uint16, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs pseudo-terminals: %v", err)
	}
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
	// bubbletea 2.1.1 closes its reader of keys at the end while that may still wait for one, which the race detector tells, and
	// nothing else comes of: the screen itself is held for races by its own tests.
	env := []string{"TERM=xterm-256color", "GORACE=atexit_sleep_ms=0 exitcode=0"}
	x := &terminal{master: master, slave: slave, cmd: command(t, env, args...), ended: make(chan error, 1)}
	x.resize(t, rows, columns)
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = slave, slave, slave
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	x.emul = vt.NewEmulator(int(columns), int(rows))
	var copying sync.WaitGroup
	copying.Go(func() { _, _ = io.Copy(master, x.emul) }) // what a terminal answers
	copying.Go(func() {
		buffer := make([]byte, 32<<10)
		for {
			n, err := master.Read(buffer)
			x.mu.Lock()
			_, _ = x.emul.Write(buffer[:n])
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = slave.Close()
		_ = master.Close()
		_ = x.emul.InputPipe().(io.Closer).Close() // the emulator's own Close races with those who read it
		copying.Wait()
	})
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
	if x.emul != nil {
		x.mu.Lock()
		x.emul.Resize(int(columns), int(rows))
		x.mu.Unlock()
	}
	if err := unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
}

// screen is what stands on it now.
func (x *terminal) screen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.emul.String()
}

// sees waits until all of these stand on the screen.
func (x *terminal) sees(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		wait.Until(t, "the screen shows "+text, func() bool { return strings.Contains(x.screen(), text) })
	}
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
		x.sees(t, "2 replicas, 2 ready", "> default  r0", "ADDRESS")
		x.resize(t, 8, 50)
		wait.Until(t, "columns are left out", func() bool { return !strings.Contains(x.screen(), "ADDRESS") })
		x.keys(t, "s")
		x.sees(t, "r0? y does")
		x.keys(t, "y")
		x.sees(t, "1 stopped")
		wait.Until(t, "one is left", func() bool { return ready(1) })
		x.keys(t, "a")
		x.sees(t, "r0? y does")
		x.keys(t, "y")
		x.sees(t, "2 replicas, 2 ready")
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
		wait.Until(t, "the screen of before is back", func() bool {
			x.mu.Lock()
			defer x.mu.Unlock()
			return !x.emul.IsAltScreen()
		})
		if !ready(2) {
			t.Errorf("%q: the engines were not left alone: %+v", end, status())
		}
	}
	if err := errors.Join(manager.Process.Signal(syscall.SIGTERM), manager.Wait()); err != nil {
		t.Errorf("the manager: %v", err)
	}
}

// 50 replicas in 10 rows, and in fewer and narrower ones: each can be reached, the head and the keys stay, and no line is longer
// than the terminal.
func TestTopFits(t *testing.T) {
	t.Parallel()
	config, _ := poolsFile(t, 50)
	manager := command(t, nil, "--config", config)
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	x := newTerminal(t, 10, 100, "top", "--config", config)
	x.start(t)
	x.sees(t, "50 replicas, 50 ready", "? help")
	x.keys(t, "g")
	x.sees(t, "> default  r0 ")
	x.keys(t, "G")
	x.sees(t, "50 replicas, 50 ready", "> default  r49", "? help")
	x.keys(t, "k")
	x.sees(t, "> default  r48")
	for _, size := range [][2]uint16{{10, 40}, {6, 100}, {40, 200}, {10, 20}} {
		x.resize(t, size[0], size[1])
		x.sees(t, "50 rep", "r48")
		x.keys(t, "g")
		x.sees(t, "> default  r0")
		x.keys(t, "Gk")
		x.sees(t, "> default  r48")
	}
	x.resize(t, 10, 100)
	x.keys(t, "/r17\r")
	x.sees(t, "> default  r17")
	wait.Until(t, "the others are left out", func() bool { return !strings.Contains(x.screen(), "r16") })
	x.keys(t, "q")
	if err := <-x.ended; err != nil {
		t.Error(err)
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
