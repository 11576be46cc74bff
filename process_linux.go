package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// process is a process that cannot be mistaken for another: it is held by a pidfd (Linux 5.3).
type process struct {
	identity
	pidfd *os.File  // pollable, so that waiting costs no thread: 100 blocked waits took 99 of them
	cmd   *exec.Cmd // nil for a process that this provisioner did not start
	untie func()    // ends the thread that a tied process dies with; nil for one that is not tied
	name  string    // of a server that is not the leader; see tree.server
}

// own takes hold of a child. Until it is reaped its pid cannot be used again, so no check is needed.
func own(cmd *exec.Cmd) (*process, error) {
	p, err := hold(cmd.Process.Pid)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	p.cmd = cmd
	return p, nil
}

// find takes hold of the process that id names, or returns errGone when it is no more. The pidfd is opened first and
// the identity is compared afterwards, so that the process cannot change in between.
func find(id identity) (*process, error) {
	if id.PID <= 1 {
		return nil, errGone
	}
	p, err := hold(id.PID)
	if err != nil {
		return nil, err
	}
	if !p.matches(id) || p.exited() {
		p.close()
		return nil, errGone
	}
	return p, nil
}

// sessionIn are the attributes of a process that leads a session and, from its first instruction on, is in the group.
func sessionIn(group *cgroup.Group) (attr *syscall.SysProcAttr, closeGroup func(), err error) {
	attr = &syscall.SysProcAttr{Setsid: true}
	if group == nil {
		return attr, func() {}, nil
	}
	dir, err := os.Open(group.Path)
	if err != nil {
		return nil, nil, err
	}
	attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
	return attr, func() { dir.Close() }, nil
}

func hold(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, errGone
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL):
		// The number is now a thread's; EINVAL says so before Linux 6.16. Whoever had it before is gone.
		return nil, errGone
	case err != nil:
		return nil, fmt.Errorf("cannot hold process %d: %w; Linux 5.3 or newer is needed", pid, err)
	}
	// PIDFD_NONBLOCK would need Linux 5.10; the flag can be set afterwards on older ones.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	p := &process{pidfd: os.NewFile(uintptr(fd), "pidfd")}
	stat, err := procfs.ReadStat(pid)
	if err == nil {
		p.identity, err = thisBoot()
	}
	if err != nil {
		p.close()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return nil, errGone
		}
		return nil, err
	}
	p.PID, p.StartTicks = pid, stat.StartTicks
	p.PidfdIno = pidfdInode(fd)
	var info unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", pid), &info); err == nil {
		p.UID = int(info.Uid)
	}
	return p, nil
}

// identify is the identity of a process that is another's child; no more than its pid when it cannot be seen.
func identify(pid int) identity {
	p, err := hold(pid)
	if err != nil {
		return identity{PID: pid}
	}
	defer p.close()
	return p.identity
}

// age is how long ago the process began, by a clock that nobody sets. It is not known of a process of another boot.
func (a identity) age() (time.Duration, bool) {
	boot, err := thisBoot()
	var now unix.Timespec
	if err != nil || a.StartTicks == 0 || a.BootID != boot.BootID || unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0, false
	}
	const tick = 10 * time.Millisecond
	age := time.Duration(now.Nano()) - time.Duration(a.StartTicks)*tick
	return max(age, 0), true
}

// thisBoot is the part of an identity that all processes of this boot and namespace share.
func thisBoot() (identity, error) {
	boot, err := procfs.BootID()
	if err != nil {
		return identity{}, err
	}
	ns, err := procfs.PIDNamespace()
	return identity{BootID: boot, PIDNS: ns}, err
}

// pidfdInode is unique to a process since Linux 6.9; before, all pidfds share one inode, which says nothing.
func pidfdInode(fd int) uint64 {
	const pidfsMagic = 0x50494446
	var sys unix.Statfs_t
	var info unix.Stat_t
	if unix.Fstatfs(fd, &sys) != nil || sys.Type != pidfsMagic || unix.Fstat(fd, &info) != nil {
		return 0
	}
	return info.Ino
}

// wait returns when the process has ended or ctx is done. The process is not reaped: until then its pid, and with it
// the name of its group, cannot become another's.
func (p *process) wait(ctx context.Context) error {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(over); _ = p.pidfd.SetReadDeadline(time.Unix(1, 0)) })
	err = conn.Read(func(fd uintptr) bool { return readable(int(fd)) })
	if !stop() {
		<-over
		_ = p.pidfd.SetReadDeadline(time.Time{}) // for whoever waits next
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

func (p *process) exited() bool {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return true
	}
	gone := true
	_ = conn.Control(func(fd uintptr) { gone = readable(int(fd)) })
	return gone
}

// readable reports whether the process of a pidfd has ended, be it reaped or not.
func readable(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if !errors.Is(err, unix.EINTR) {
			return n == 1
		}
	}
}

// signal sends sig to the process, which may have ended.
func (p *process) signal(sig syscall.Signal) error {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	// Control fails only on a closed descriptor, and it is closed after the process has ended.
	_ = conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return sent
}

// reap collects a child that has ended and tells how.
func (p *process) reap() Exit {
	defer p.close()
	if p.cmd == nil {
		return p.foreignStatus()
	}
	return statusOf(p.cmd)
}

// foreignStatus tells how another's child ended: the kernel keeps that with the pidfd once its parent has reaped it
// (Linux 6.15), and until then with the zombie.
func (p *process) foreignStatus() Exit {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	var err error
	if conn, e := p.pidfd.SyscallConn(); e == nil {
		_ = conn.Control(func(fd uintptr) { err = unix.IoctlPidfdInfo(int(fd), &info) })
	}
	if err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
		return waitStatus(syscall.WaitStatus(info.Exit_code))
	}
	if s, err := procfs.ReadStat(p.PID); err == nil && s.Dead() && s.StartTicks == p.StartTicks {
		return waitStatus(syscall.WaitStatus(s.ExitCode))
	}
	return Exit{}
}

func (p *process) close() {
	if p.untie != nil {
		p.untie()
	}
	_ = p.pidfd.Close()
}

// tree is all processes of a launch: the leader, its session and group, whatever carries the launch's mark in its
// environment or is in its cgroup, and the children of all these. It works without a leader, too.
type tree struct {
	launchID string
	group    *cgroup.Group // nil where none was delegated
	leader   identity      // the zero value when it is not known; no member is older
	past     pastLeader    // of a launch whose leader may be gone

	mu   sync.Mutex
	seen map[int]uint64 // start ticks by pid of the members so far: a member stays one when its parent dies
}

// hasLeft tells whether s is of a leader that may be gone. Its session and group may be a stranger's by now, but no stranger
// prints into the launch's own log. Without that, the workers of a vLLM that was killed are nobody's: setproctitle has
// overwritten the environment with their mark, and Python has closed the lock in them.
func (l pastLeader) hasLeft(s procfs.Stat) bool {
	return l.pid > 0 && (s.SID == l.pid || s.PGID == l.pid) && procfs.PrintsTo(s.PID, l.log)
}

// members lists the living processes of the tree. Processes of other users are left out.
func (t *tree) members() ([]procfs.Stat, error) {
	all, err := procfs.Processes()
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes: %w", err)
	}
	grouped := t.group.Processes()
	t.mu.Lock()
	defer t.mu.Unlock()
	// A session or group of the leader's number is the leader's only as long as the leader is there, be it dead and
	// not yet reaped: afterwards the number can be a stranger's.
	leaderThere := slices.ContainsFunc(all, func(s procfs.Stat) bool {
		return s.PID == t.leader.PID && s.StartTicks == t.leader.StartTicks
	})
	belongs := func(s procfs.Stat) bool {
		ticks, known := t.seen[s.PID]
		return known && ticks == s.StartTicks ||
			leaderThere && (s.SID == t.leader.PID || s.PGID == t.leader.PID) ||
			t.past.hasLeft(s) ||
			slices.Contains(grouped, s.PID) ||
			procfs.HasEnv(s.PID, launchIDEnv+"="+t.launchID)
	}
	// This program never ends itself, even if an engine has started it. Nearly all processes of a machine are older than
	// the launch: their environments need not be read.
	all = slices.DeleteFunc(all, func(s procfs.Stat) bool {
		return s.PID <= 1 || s.PID == os.Getpid() || s.StartTicks < t.leader.StartTicks
	})
	found := map[int]procfs.Stat{}
	for _, s := range all {
		if belongs(s) {
			found[s.PID] = s
		}
	}
	// Children of members are members. Pids need not grow from parent to child, so this goes on until nothing is new.
	for grown := true; grown; {
		grown = false
		for _, s := range all {
			_, known := found[s.PID]
			if _, child := found[s.PPID]; child && !known {
				found[s.PID] = s
				grown = true
			}
		}
	}
	var members []procfs.Stat
	t.seen = make(map[int]uint64, len(found))
	for pid, s := range found {
		if !s.Dead() {
			members = append(members, s)
			t.seen[pid] = s.StartTicks
		}
	}
	return members, nil
}

// kill sends SIGKILL to processes that members has listed.
func kill(members []procfs.Stat) {
	for _, m := range members {
		p, err := hold(m.PID)
		if err != nil {
			continue // gone
		}
		if p.StartTicks == m.StartTicks {
			_ = p.signal(unix.SIGKILL)
		}
		p.close()
	}
}
