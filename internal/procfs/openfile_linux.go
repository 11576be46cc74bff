package procfs

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// openFile opens a regular file by the name that /proc has for a descriptor of another process, if what it leads to is
// wanted; else it is nil. What the name led to a moment ago says nothing: the process may have closed it, and have a pipe
// there now. To open that would wait for ever, and take from its reader what was written to it. So the file is taken hold of
// first, which opens nothing, and looked at and opened by that.
func openFile(name string, flags int, wanted func(target string) bool) *os.File {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	var info unix.Stat_t
	if unix.Fstat(fd, &info) != nil || info.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	own := "/proc/self/fd/" + strconv.Itoa(fd)
	if target, err := os.Readlink(own); err != nil || !wanted(target) {
		return nil
	}
	f, err := os.OpenFile(own, flags, 0)
	if err != nil {
		return nil
	}
	return f
}
