//go:build unix && !linux

package provisioner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// This file is for macOS and the BSDs. It is compiled, never run: there is no such machine in CI. It does what these
// systems allow without /proc and pidfds: start an engine, wait for it, and stop it with its process group and its
// children. A process that has left the group and lost its parent is not found, and another provisioner's engine
// cannot be attached to.

// process is a child of this program. Its pid cannot become another's until it is reaped.
type process struct {
	identity
	untie func() // never set here
	name  string // never set here
	cmd   *exec.Cmd
	gone  chan struct{} // closed when it has ended
}

func own(cmd *exec.Cmd) (*process, error) {
	p := &process{identity: identity{PID: cmd.Process.Pid, UID: os.Getuid()}, cmd: cmd, gone: make(chan struct{})}
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

// find returns errGone when there is no process with the pid. If there is one, nothing here proves that it is the same.
func find(id identity) (*process, error) {
	if id.PID <= 1 || errors.Is(unix.Kill(id.PID, 0), unix.ESRCH) {
		return nil, errGone
	}
	return hold(id.PID)
}

// age is not known here.
func (a identity) age() (time.Duration, bool) { return 0, false }

func sessionIn(*cgroup.Group) (attr *syscall.SysProcAttr, closeGroup func(), err error) {
	return &syscall.SysProcAttr{Setsid: true}, func() {}, nil
}

func hold(pid int) (*process, error) {
	return nil, fmt.Errorf("cannot take hold of process %d, which another program started: %w on %s; end it with kill",
		pid, errors.ErrUnsupported, runtime.GOOS)
}

// thisBoot cannot be told without /proc.
func thisBoot() (identity, error) { return identity{}, errors.ErrUnsupported }

// identify is no more than the pid here.
func identify(pid int) identity { return identity{PID: pid} }

func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *process) exited() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

func (p *process) signal(sig syscall.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

func (p *process) reap() Exit { return statusOf(p.cmd) }

// close does nothing: the goroutine of own ends with the process, also when the process was released.
func (p *process) close() {}

// tree is the leader, its process group, and the children of all these.
type tree struct {
	launchID string
	leader   identity      // the zero value when it was never known
	group    *cgroup.Group // none here
	past     pastLeader    // says nothing without /proc
}

// members lists the living processes of the tree. Once the leader is reaped its number can be a stranger's, so then
// there are none to be known of.
func (t *tree) members() ([]procfs.Stat, error) {
	if t.leader.PID <= 1 {
		return nil, nil
	}
	// POSIX has no system call for this, but it has ps. Each header needs an -o of its own to be empty.
	out, err := exec.Command("ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "pgid=", "-o", "rss=", "-o", "stat=", "-o", "comm=").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes: %w", err)
	}
	var all []procfs.Stat
	for line := range strings.Lines(string(out)) {
		var s procfs.Stat
		var rss int64
		var state string
		if n, _ := fmt.Sscan(line, &s.PID, &s.PPID, &s.PGID, &rss, &state, &s.Comm); n == 6 && s.PID > 1 && s.PID != os.Getpid() {
			s.State, s.RSSPages = state[0], rss*1024/int64(os.Getpagesize())
			all = append(all, s)
		}
	}
	isLeader := func(s procfs.Stat) bool { return s.PID == t.leader.PID && s.PPID == os.Getpid() }
	if !slices.ContainsFunc(all, isLeader) {
		return nil, nil
	}
	found := map[int]bool{}
	for grown := true; grown; {
		grown = false
		for _, s := range all {
			if !found[s.PID] && (s.PGID == t.leader.PID || found[s.PPID]) {
				found[s.PID] = true
				grown = true
			}
		}
	}
	return slices.DeleteFunc(all, func(s procfs.Stat) bool { return s.Dead() || !found[s.PID] }), nil
}

// kill sends SIGKILL to processes that members has listed. In between the pid of a child outside the group could become
// another's; no call closes this gap here.
func kill(members []procfs.Stat) {
	for _, m := range members {
		_ = unix.Kill(m.PID, unix.SIGKILL)
	}
}

// boundSilently cannot be told without /proc.
func boundSilently(string, int) bool { return false }

// listenerOwner cannot be told without /proc.
func listenerOwner(string, int) string { return "" }

// hasCapabilities: only Linux has them.
func hasCapabilities(string) bool { return false }

// ownsListener cannot be told without /proc: the check of the model's path has to do.
func (t *tree) ownsListener(string, int) (owns, known bool) { return false, false }

// server cannot be told without /proc.
func (t *tree) server(string, int) *process { return nil }

func (p *process) listensOn(string, int) bool { return false }
