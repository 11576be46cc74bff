//go:build unix && !linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
)

// This file is for macOS and the BSDs. It is compiled, never run: there is no such machine in CI. It does what these
// systems allow without /proc and pidfds: start an engine, wait for it, and stop it with its process group and its
// children. A process that has left the group and lost its parent is not found, and another provisioner's engine
// cannot be attached to.

// Process is a child of this program. Its pid cannot become another's until it is reaped.
type Process struct {
	ID
	untie func() // never set here
	Name  string // never set here
	cmd   *exec.Cmd
	gone  chan struct{} // closed when it has ended
}

func own(cmd *exec.Cmd) (*Process, error) {
	p := &Process{ID: ID{PID: cmd.Process.Pid, UID: os.Getuid()}, cmd: cmd, gone: make(chan struct{})}
	kq, err := unix.Kqueue()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot watch process %d: %w", p.PID, err), cmd.Process.Kill(), cmd.Wait())
	}
	unix.CloseOnExec(kq)
	// NOTE_EXIT comes when the process has ended and before it is reaped, which is when the rest of its group can be
	// ended safely. The wait costs a thread.
	var exit unix.Kevent_t
	unix.SetKevent(&exit, p.PID, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	exit.Fflags = unix.NOTE_EXIT
	_, err = unix.Kevent(kq, []unix.Kevent_t{exit}, nil, nil)
	if err != nil && !errors.Is(err, unix.ESRCH) { // ESRCH: it has ended already
		return nil, errors.Join(fmt.Errorf("cannot watch process %d: %w", p.PID, err), unix.Close(kq), cmd.Process.Kill(), cmd.Wait())
	}
	ended := err != nil
	go func() {
		defer close(p.gone)
		defer func() { _ = unix.Close(kq) }()
		for n := 0; !ended && n == 0; {
			n, err = unix.Kevent(kq, nil, make([]unix.Kevent_t, 1), nil)
			ended = err != nil && !errors.Is(err, unix.EINTR)
		}
	}()
	return p, nil
}

// Find returns ErrGone when there is no process with the pid. If there is one, nothing here proves that it is the same.
func Find(id ID) (*Process, error) {
	if id.PID <= 1 || errors.Is(unix.Kill(id.PID, 0), unix.ESRCH) {
		return nil, ErrGone
	}
	return Hold(id.PID)
}

// Age is not known here.
func (a ID) Age() (time.Duration, bool) { return 0, false }

func sessionIn(*cgroup.Group) (attr *syscall.SysProcAttr, closeGroup func(), err error) {
	return &syscall.SysProcAttr{Setsid: true}, func() {}, nil
}

// Hold cannot hold what is no child here.
func Hold(pid int) (*Process, error) {
	return nil, fmt.Errorf("cannot take hold of process %d, which another program started: %w on %s; end it with kill",
		pid, errors.ErrUnsupported, runtime.GOOS)
}

// ThisBoot cannot be told without /proc.
func ThisBoot() (ID, error) { return ID{}, errors.ErrUnsupported }

// Identify is no more than the pid here.
func Identify(pid int) ID { return ID{PID: pid} }

// Wait returns when the process has ended or ctx is done.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Exited reports whether the process has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// Signal sends sig to the process, which may have ended.
func (p *Process) Signal(sig syscall.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Reap collects a child that has ended and tells how.
func (p *Process) Reap() Status { return statusOf(p.cmd) }

// Close does nothing: the goroutine of own ends with the process, also when the process was released.
func (p *Process) Close() {}

// Began cannot be told without /proc.
func (a ID) Began() uint64 { return 0 }
