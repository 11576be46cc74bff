package enginetest

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// childLife is how long a child lives that nobody kills.
const childLife = 5 * time.Minute

// startChild starts a child and returns its pid once the child is as c says: signals ignored, files closed.
//
// The child writes its pid into a pipe that is its stdin. An extra file would land on descriptor 3, where a lock that
// was inherited from the engine's parent may be.
func startChild(c Child, cookie string) (pid int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }()
	cmd, err := childCommand(c, cookie)
	if err == nil {
		cmd.Stdin = w
		if c.HoldStdout {
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		}
		err = cmd.Start()
	}
	_ = w.Close()
	if err != nil {
		return 0, fmt.Errorf("cannot start a child: %w", err)
	}
	go func() { _ = cmd.Wait() }() // reaps it, as engines do
	text, err := io.ReadAll(r)
	if err != nil {
		return 0, fmt.Errorf("cannot hear from a child: %w", err)
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("cannot hear from a child: %w", err)
	}
	return pid, nil
}

// childCommand is this program again, as the child c.
func childCommand(c Child, cookie string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	inv, err := json.Marshal(invocation{Cookie: cookie, Child: &c})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, marker, string(inv))
	if c.ClearEnv {
		cmd.Env = []string{}
	}
	switch c.Kind {
	case OwnGroup:
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	case NewSession, DoubleFork:
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	return cmd, nil
}

// runChild is the life of a child.
func runChild(inv invocation) int {
	c, parent := *inv.Child, os.Getppid()
	if c.Kind == DoubleFork {
		// The parent in the middle: hands its stdin and outputs on and goes.
		c.Kind = NewSession
		cmd, err := childCommand(c, inv.Cookie)
		if err == nil {
			cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
			err = cmd.Start()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "cannot start a grandchild: %v\n", err)
			return 1
		}
		return 0
	}
	if c.IgnoreTerm {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	}
	if c.CloseFDs {
		closeInherited()
	}
	fmt.Fprintln(os.Stdin, os.Getpid())
	_ = os.Stdin.Close()
	if c.Outlives > 0 {
		for os.Getppid() == parent {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(c.Outlives)
		return 0
	}
	time.Sleep(childLife)
	return 0
}
