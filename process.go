package provisioner

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/proc"
)

// command is what is started.
type command struct {
	path  string
	args  []string // without the path
	env   []string
	dir   string
	log   *os.File      // receives both output streams
	lock  *os.File      // inherited, so that it stays locked as long as a process of the engine lives
	group *cgroup.Group // where it begins; nil: where this program is
	tied  bool          // it is killed when this program ends
}

// launch starts c in a session of its own.
func launch(c command) (*process, error) {
	var cmd *exec.Cmd
	var untie func()
	err := startFresh(func() error {
		cmd = exec.Command(c.path, c.args...) // not CommandContext: the engine's life is not the call's
		cmd.Env = c.env
		cmd.Dir = c.dir
		cmd.Stdout, cmd.Stderr = c.log, c.log
		if c.lock != nil {
			cmd.ExtraFiles = []*os.File{c.lock}
		}
		attr, closeGroup, err := sessionIn(c.group)
		if err != nil {
			return err
		}
		defer closeGroup()
		cmd.SysProcAttr = attr
		if c.tied {
			untie, err = proc.StartTied(cmd)
			return err
		}
		return proc.Start(cmd)
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

// startFresh calls start until it has started a command. A freshly written executable can be busy for some
// milliseconds, while a fork elsewhere in this program still holds it open for writing; that is waited for.
func startFresh(start func() error) error {
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		err := start()
		if !errors.Is(err, syscall.ETXTBSY) || wait > 320*time.Millisecond {
			return err
		}
		time.Sleep(wait)
	}
}

// errGone says that a process has ended.
var errGone = errors.New("the process is gone")

func statusOf(cmd *exec.Cmd) Exit {
	_ = cmd.Wait() // the state says it all
	ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return Exit{}
	}
	return waitStatus(ws)
}

func waitStatus(ws syscall.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{Known: true, Code: -1, Signal: ws.Signal().String()}
	}
	return Exit{Known: true, Code: ws.ExitStatus()}
}

// pastLeader is what a record says of a launch's leader, which led a session and a group.
type pastLeader struct {
	pid int // 0 when it is not known
	log string
}
