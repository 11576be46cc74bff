package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// Process is a process that cannot be mistaken for another: it is held by a pidfd (Linux 5.3).
type Process struct {
	ID
	pidfd *os.File  // pollable, so that waiting costs no thread: 100 blocked waits took 99 of them
	cmd   *exec.Cmd // nil for a process that this provisioner did not start
	untie func()    // ends the thread that a tied process dies with; nil for one that is not tied
	Name  string    // of a server that is not the leader; see [Tree.Server]
}

// own takes hold of a child. Until it is reaped its pid cannot be used again, so no check is needed.
func own(cmd *exec.Cmd) (*Process, error) {
	p, err := Hold(cmd.Process.Pid)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	p.cmd = cmd
	return p, nil
}

// Find takes hold of the process that id names, or returns ErrGone when it is no more. The pidfd is opened first and
// the identity is compared afterwards, so that the process cannot change in between.
func Find(id ID) (*Process, error) {
	if id.PID <= 1 {
		return nil, ErrGone
	}
	p, err := Hold(id.PID)
	if err != nil {
		return nil, err
	}
	if !p.Matches(id) || p.Exited() {
		p.Close()
		return nil, ErrGone
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

// Hold takes hold of the process that has the number now, or returns ErrGone.
func Hold(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, ErrGone
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL):
		// The number is now a thread's; EINVAL says so before Linux 6.16. Whoever had it before is gone.
		return nil, ErrGone
	case err != nil:
		return nil, fmt.Errorf("cannot hold process %d: %w; Linux 5.3 or newer is needed", pid, err)
	}
	// PIDFD_NONBLOCK would need Linux 5.10; the flag can be set afterwards on older ones.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	p := &Process{pidfd: os.NewFile(uintptr(fd), "pidfd")}
	stat, err := procfs.ReadStat(pid)
	if err == nil {
		p.ID, err = ThisBoot()
	}
	if err != nil {
		p.Close()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return nil, ErrGone
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

// Identify is the identity of a process that is another's child; no more than its pid when it cannot be seen.
func Identify(pid int) ID {
	p, err := Hold(pid)
	if err != nil {
		return ID{PID: pid}
	}
	defer p.Close()
	return p.ID
}

// tick is in what /proc counts time.
const tick = 10 * time.Millisecond

// Age is how long ago the process began, by a clock that nobody sets. It is not known of a process of another boot.
func (a ID) Age() (time.Duration, bool) {
	boot, err := ThisBoot()
	var now unix.Timespec
	if err != nil || a.StartTicks == 0 || a.BootID != boot.BootID || unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0, false
	}
	age := time.Duration(now.Nano()) - time.Duration(a.StartTicks)*tick
	return max(age, 0), true
}

// Began is when the process did, in ticks since boot, if it is or was one of this boot and namespace; else 0.
func (a ID) Began() uint64 {
	if here, err := ThisBoot(); err != nil || a.BootID != here.BootID || a.PIDNS != here.PIDNS {
		return 0
	}
	return a.StartTicks
}

// ThisBoot is the part of an identity that all processes of this boot and namespace share.
func ThisBoot() (ID, error) {
	boot, err := procfs.BootID()
	if err != nil {
		return ID{}, err
	}
	ns, err := procfs.PIDNamespace()
	return ID{BootID: boot, PIDNS: ns}, err
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

// Wait returns when the process has ended or ctx is done. The process is not reaped: until then its pid, and with it
// the name of its group, cannot become another's.
func (p *Process) Wait(ctx context.Context) error {
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

// Exited reports whether the process has ended, be it reaped or not.
func (p *Process) Exited() bool {
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

// Signal sends sig to the process, which may have ended.
func (p *Process) Signal(sig syscall.Signal) error {
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

// Reap collects a child that has ended and tells how.
func (p *Process) Reap() Status {
	defer p.Close()
	if p.cmd == nil {
		return p.foreignStatus()
	}
	return statusOf(p.cmd)
}

// foreignStatus tells how another's child ended: the kernel keeps that with the pidfd once its parent has reaped it
// (Linux 6.15), and until then with the zombie.
func (p *Process) foreignStatus() Status {
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
	return Status{}
}

// Close lets go of the process.
func (p *Process) Close() {
	if p.untie != nil {
		p.untie()
	}
	_ = p.pidfd.Close()
}
