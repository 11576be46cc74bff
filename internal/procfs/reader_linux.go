package procfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// read is what a file of a process holds, valid until the next one is read. The calls are made without package os, which
// allocates and asks the poller for each file: that was half of the time of a walk over all processes.
//
// whole says that the kernel gives the file in one piece, as all that is one line: then the piece need not be followed by
// another question, which would be a third of the calls of a walk.
func (r *Reader) read(pid int, name string, whole bool) ([]byte, error) {
	r.path = strconv.AppendInt(append(r.path[:0], "/proc/"...), int64(pid), 10)
	r.path = append(append(append(r.path, '/'), name...), 0)
	fd, err := r.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	for n := 0; ; {
		r.data = slices.Grow(r.data[:n], 1024)
		r.data = r.data[:cap(r.data)]
		room := len(r.data) - n
		more, err := unix.Read(fd, r.data[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case more == 0, whole && more < room:
			return r.data[:n+more], nil
		default:
			n += more
		}
	}
}

func (r *Reader) open() (int, error) {
	for {
		at := unix.AT_FDCWD
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&r.path[0])), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Each calls do for each process that can be seen, the dead that wait to be reaped among them. inode is that of its folder:
// as long as that is the same, it is the same process, since a later one with its number gets a folder of its own. The
// kernel may give a process another one, to save memory. It is 0 where there is none.
func (r *Reader) Each(do func(pid int, inode uint64)) error {
	dir, err := os.Open("/proc")
	if err != nil {
		return err
	}
	defer dir.Close()
	r.list = slices.Grow(r.list[:0], 32<<10)[:32<<10]
	for {
		n, err := unix.ReadDirent(int(dir.Fd()), r.list)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("getdents64", err)
		case n == 0:
			return nil
		}
		// struct linux_dirent64: inode (8), offset (8), length of the entry (2), type (1), name.
		for entries := r.list[:n]; len(entries) > 19; {
			length := int(binary.NativeEndian.Uint16(entries[16:]))
			if length < 19 || length > len(entries) {
				return errors.New("cannot list the processes: an entry of no length")
			}
			name, _, _ := bytes.Cut(entries[19:length], []byte{0})
			if pid, ok := number(name); ok {
				do(pid, binary.NativeEndian.Uint64(entries))
			}
			entries = entries[length:]
		}
	}
}

// number reads a decimal, without the error that strconv would make of each other name.
func number(text []byte) (n int, ok bool) {
	for _, digit := range text {
		if digit < '0' || digit > '9' || n > 1<<24 { // pids end at 1<<22
			return 0, false
		}
		n = 10*n + int(digit-'0')
	}
	return n, len(text) > 0
}
