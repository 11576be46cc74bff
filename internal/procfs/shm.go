package procfs

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ParseShm returns the paths below /dev/shm that a maps file names, and the inodes of semaphores among what has no name
// there. Left out are paths that are unlinked already, and those with a newline, which the file does not tell from a
// backslash and digits.
func ParseShm(r io.Reader) (paths []string, semaphores []uint64) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		// "7f0c4a000000-7f0c4a001000 rw-s 00000000 00:1b 5        /dev/shm/name": five fields, then a path, which may
		// hold spaces and so whatever follows them.
		name, inode := strings.TrimSuffix(line, "\n"), ""
		for range 5 {
			inode, name, _ = strings.Cut(strings.TrimLeft(name, " "), " ")
		}
		name = strings.TrimLeft(name, " ")
		unlinked := strings.HasSuffix(name, " (deleted)")
		switch {
		case !strings.HasPrefix(name, "/dev/shm/") || strings.Contains(name, `\012`):
		case unlinked && strings.HasPrefix(name, "/dev/shm/sem."):
			if n, err := strconv.ParseUint(inode, 10, 64); err == nil && !slices.Contains(semaphores, n) {
				semaphores = append(semaphores, n)
			}
		case !unlinked && !slices.Contains(paths, name):
			paths = append(paths, name)
		}
		if err != nil {
			return paths, semaphores
		}
	}
}

// Shm returns the paths of the objects below /dev/shm that the process has mapped.
func Shm(pid int) []string {
	f, err := os.Open(path(pid, "maps"))
	if err != nil {
		return nil
	}
	defer f.Close()
	paths, semaphores := ParseShm(f)
	if len(semaphores) == 0 {
		return paths
	}
	// The sem_open of glibc maps a file of a random name, links it to the name that was asked for, and unlinks the first:
	// the process that made a semaphore shows a name that is gone.
	entries, _ := os.ReadDir("/dev/shm")
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue
		}
		name := filepath.Join("/dev/shm", entry.Name())
		if st, ok := info.Sys().(*syscall.Stat_t); ok && slices.Contains(semaphores, st.Ino) && !slices.Contains(paths, name) {
			paths = append(paths, name)
		}
	}
	return paths
}
