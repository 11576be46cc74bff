package shm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func idOf(st unix.Stat_t) file { return file{unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino} }

// identify tells which file a path names; false where that is a link or nothing.
func identify(path string) (file, bool) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return file{}, false
	}
	return idOf(st), true
}

// early is by how much a birth time can be so: it has the resolution of a kernel tick.
const early = 10 * time.Millisecond

// birth is when a file of this user's came into being; the zero time of another's, and where that cannot be told: tmpfs does
// since Linux 5.18.
func birth(path string) time.Time {
	st, ok := status(path)
	if !ok || int(st.Uid) != os.Getuid() {
		return time.Time{}
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
}

// madeSince reports whether a file is this user's, has one name only, and came into being after t.
func madeSince(path string, t time.Time) bool {
	st, ok := status(path)
	born := birth(path)
	return ok && st.Nlink == 1 && !born.IsZero() && !born.Before(t.Add(-early))
}

func status(path string) (st unix.Statx_t, ok bool) {
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_UID|unix.STATX_NLINK, &st)
	return st, err == nil && st.Mask&unix.STATX_BTIME != 0
}

// opened reports which of the files a process has open.
func opened(pid int, files map[file]string) (open []file) {
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	d, err := os.Open(folder)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		fd := filepath.Join(folder, name)
		target, err := os.Readlink(fd) // a look at each file could hang on a network disk
		if err != nil || !strings.HasPrefix(target, "/") {
			continue
		}
		for id, path := range files {
			var st unix.Stat_t
			if filepath.Base(target) == filepath.Base(path) && unix.Stat(fd, &st) == nil && idOf(st) == id {
				open = append(open, id)
			}
		}
	}
	return open
}
