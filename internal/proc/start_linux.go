package proc

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func start(cmd *exec.Cmd, tied bool) (untie func(), err error) {
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	out, err := stream(cmd.Stdout)
	if err != nil {
		return nil, err
	}
	errs, err := stream(cmd.Stderr)
	if err != nil {
		return nil, err
	}
	if cmd.Stdin != nil {
		return nil, errors.New("a process is started without input")
	}
	attr := &syscall.ProcAttr{Dir: cmd.Dir, Env: cmd.Environ(), Sys: cmd.SysProcAttr}
	for _, file := range append([]*os.File{null, out, errs}, cmd.ExtraFiles...) {
		if file == nil {
			file = null
		}
		attr.Files = append(attr.Files, file.Fd())
	}
	if tied {
		sys := syscall.SysProcAttr{}
		if attr.Sys != nil {
			sys = *attr.Sys
		}
		sys.Pdeathsig = syscall.SIGKILL
		attr.Sys = &sys
	}

	var pid, thread int
	began, ended := make(chan error), make(chan struct{})
	onOwnThread(func() {
		thread = unix.Gettid()
		apart := leaveDescriptors()
		unblockSignals()
		var err error
		pid, _, err = syscall.StartProcess(cmd.Path, cmd.Args, attr)
		if tied && apart {
			closeCopies()
		}
		began <- err
		if err == nil && tied {
			// The kernel sends the parent-death signal when the thread that started the process ends, not when the program
			// does (golang/go#27505), so this one is kept for as long as the process lives.
			<-ended
		}
	})
	err = <-began
	runtime.KeepAlive(cmd)
	if !tied || err != nil {
		awaitThread(thread)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "fork/exec", Path: cmd.Path, Err: err}
	}
	// It is not reaped before somebody waits for it here, so that the pid is its own.
	cmd.Process, err = os.FindProcess(pid)
	return sync.OnceFunc(func() { close(ended) }), err
}

// stream is nil for nothing.
func stream(w io.Writer) (*os.File, error) {
	if w == nil {
		return nil, nil
	}
	f, ok := w.(*os.File)
	if !ok {
		return nil, errors.New("a process is started with streams that are no files")
	}
	return f, nil
}

// onOwnThread runs f on a thread that ends with it, so that f may change what belongs to a thread. New threads of the
// runtime are not made from such a one (see runtime.LockOSThread), and no other goroutine runs on it.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread() // for good
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// The main thread cannot end, and what /proc shows of the program is what this thread has. While it waits here, the
		// next goroutine runs on another.
		over := make(chan struct{})
		onOwnThread(func() { close(over); f() })
		<-over
		runtime.UnlockOSThread()
	}()
}

// leaveDescriptors gives this thread a copy of the program's descriptors, in which all but the first three are closed when a
// process is started. The program's own are left as they are: the library is a guest. It is false where the
// thread has no copy.
func leaveDescriptors() (apart bool) {
	const all = math.MaxUint32
	if unix.CloseRange(3, all, unix.CLOSE_RANGE_UNSHARE|unix.CLOSE_RANGE_CLOEXEC) == nil {
		return true
	}
	// Before Linux 5.11, or a seccomp filter.
	if unix.Unshare(unix.CLONE_FILES) != nil {
		return false
	}
	closeOnExec("/proc/thread-self/fd")
	return true
}

// CloseOnExec marks all descriptors of the program but the first three. It is for a main function, as the first thing that
// it does: then nothing that it was born with is passed on, whoever starts a process.
func CloseOnExec() {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) != nil { // before Linux 5.11
		closeOnExec("/proc/self/fd")
	}
}

func closeOnExec(dir string) {
	for _, fd := range descriptors(dir) {
		if fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

func descriptors(dir string) (fds []int) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds
}

// closeCopies closes what this thread has copies of: they would keep locks, and pipes from their end. What has neither is
// left open: the scheduler wakes the poller of the network through an eventfd, on this thread too, and panics without it.
func closeCopies() {
	const own = "/proc/thread-self/fd"
	for _, fd := range descriptors(own) {
		if what, err := os.Readlink(own + "/" + strconv.Itoa(fd)); err == nil && !strings.HasPrefix(what, "anon_inode:") {
			_ = unix.Close(fd)
		}
	}
}

// awaitThread waits until a thread that is ending is gone, and its copies with it: whoever lets go of a lock after a start
// shall find it free.
func awaitThread(thread int) {
	for wait := 10 * time.Microsecond; unix.Tgkill(unix.Getpid(), thread, 0) == nil && wait < 50*time.Millisecond; wait *= 2 {
		time.Sleep(wait)
	}
}

// unblockSignals lets the process hear what this program was started without, by a parent that had it blocked, such as the
// signal by which an engine tells where it is stuck. What is pending is left blocked, since it would arrive here.
func unblockSignals() {
	var blocked, pending unix.Sigset_t
	if unix.PthreadSigmask(unix.SIG_SETMASK, nil, &blocked) != nil || blocked == (unix.Sigset_t{}) {
		return
	}
	// The kernel knows 64 signals.
	if _, _, errno := unix.RawSyscall(unix.SYS_RT_SIGPENDING, uintptr(unsafe.Pointer(&pending)), 8, 0); errno != 0 {
		return
	}
	for i := range blocked.Val {
		blocked.Val[i] &= pending.Val[i]
	}
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &blocked, nil)
}
