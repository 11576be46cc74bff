package enginetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// closeInherited closes what was inherited beyond stdio. The runtime's own files are told apart by their
// close-on-exec flag.
func closeInherited() {
	for fd := range openFiles() {
		n, err := strconv.Atoi(fd)
		if err != nil || n < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(n)
		}
	}
}

// openFiles maps the process's descriptors to what they are open on.
func openFiles() map[string]string {
	files := map[string]string{}
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			files[filepath.Base(link)] = target
		}
	}
	return files
}

// rename makes name what ps shows of the process beside its command line.
func rename(name string) error { return os.WriteFile("/proc/self/comm", []byte(name), 0) }

// bindToParent has the kernel kill a child when its parent dies.
func bindToParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// mapShm creates the file path with size bytes and maps it.
func mapShm(path string, size int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	return unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// wipeEnviron zeroes the memory that /proc/PID/environ shows. The process's own environment stays as it is.
func wipeEnviron() error {
	// Go's strings point into that memory: they are copied out of it first.
	saved := os.Environ()
	for i, v := range saved {
		saved[i] = strings.Clone(v)
	}
	os.Clearenv()
	defer func() {
		for _, v := range saved {
			name, value, _ := strings.Cut(v, "=")
			_ = os.Setenv(name, value)
		}
	}()
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest) // begins with field 3, proc(5)
	const envStart, envEnd = 50 - 3, 51 - 3
	if len(fields) <= envEnd {
		return fmt.Errorf("/proc/self/stat has only %d fields", len(fields)+2)
	}
	start, err := strconv.ParseInt(fields[envStart], 10, 64)
	if err != nil {
		return err
	}
	end, err := strconv.ParseInt(fields[envEnd], 10, 64)
	if err != nil {
		return err
	}
	mem, err := os.OpenFile("/proc/self/mem", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = mem.Close() }()
	_, err = mem.WriteAt(make([]byte, end-start), start)
	return err
}
