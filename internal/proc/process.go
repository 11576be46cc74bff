package proc

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
)

// Command is what is started.
type Command struct {
	Path  string
	Args  []string // without the path
	Env   []string
	Dir   string
	Log   *os.File      // receives both output streams
	Lock  *os.File      // inherited, so that it stays locked as long as a process of the engine lives
	Group *cgroup.Group // where it begins; nil: where this program is
	Tied  bool          // it is killed when this program ends
}

// StartSession starts c in a session of its own.
func StartSession(c Command) (*Process, error) {
	var cmd *exec.Cmd
	var untie func()
	err := StartFresh(func() error {
		cmd = exec.Command(c.Path, c.Args...) // not CommandContext: the engine's life is not the call's
		cmd.Env = c.Env
		cmd.Dir = c.Dir
		cmd.Stdout, cmd.Stderr = c.Log, c.Log
		if c.Lock != nil {
			cmd.ExtraFiles = []*os.File{c.Lock}
		}
		attr, closeGroup, err := sessionIn(c.Group)
		if err != nil {
			return err
		}
		defer closeGroup()
		cmd.SysProcAttr = attr
		if c.Tied {
			untie, err = StartTied(cmd)
			return err
		}
		return Start(cmd)
	})
	if err != nil {
		return nil, err
	}
	p, err := own(cmd)
	if err == nil {
		p.untie = untie
	}
	return p, err
}

// StartFresh calls start until it has started a command. A freshly written executable can be busy for some
// milliseconds, while a fork elsewhere in this program still holds it open for writing; that is waited for.
func StartFresh(start func() error) error {
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		err := start()
		if !errors.Is(err, syscall.ETXTBSY) || wait > 320*time.Millisecond {
			return err
		}
		time.Sleep(wait)
	}
}

// ErrGone says that a process has ended.
var ErrGone = errors.New("the process is gone")

// Status is how a process ended. The zero value means that it is not known, as for another's child.
type Status struct {
	Known  bool
	Code   int    // -1 when a signal ended it
	Signal string // such as "killed"; "" when it exited by itself
}

func statusOf(cmd *exec.Cmd) Status {
	_ = cmd.Wait() // the state says it all
	ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return Status{}
	}
	return waitStatus(ws)
}

func waitStatus(ws syscall.WaitStatus) Status {
	if ws.Signaled() {
		return Status{Known: true, Code: -1, Signal: ws.Signal().String()}
	}
	return Status{Known: true, Code: ws.ExitStatus()}
}

// Past is what a record says of a launch's leader, which led a session and a group.
type Past struct {
	PID int // 0 when it is not known
	Log string
}

// Child is the process as this program's child, for whoever reaps it without a Process; nil when another program started it.
func (p *Process) Child() *os.Process {
	if p.cmd == nil {
		return nil
	}
	return p.cmd.Process
}
