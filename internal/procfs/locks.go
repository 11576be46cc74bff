package procfs

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// FlockHolders are the processes that have taken an exclusive flock which is still held, as far as they can be seen.
func FlockHolders() []int {
	data, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil
	}
	return ParseFlockHolders(string(data))
}

// ParseFlockHolders reads /proc/locks.
func ParseFlockHolders(text string) []int {
	var pids []int
	for line := range strings.Lines(text) {
		// 1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF; a waiter has "->" behind the number
		f := strings.Fields(line)
		if len(f) < 5 || f[1] != "FLOCK" || f[3] != "WRITE" {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Holders are the processes that have a file open, as far as that can be seen.
func Holders(path string) ([]Stat, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	all, err := Processes()
	return slices.DeleteFunc(all, func(s Stat) bool { return !HoldsFile(s.PID, info) }), err
}

// OpenFiles are names in /proc for the open files of a process that are called name, or were when they were removed.
func OpenFiles(pid int, name string) []string {
	dir := path(pid, "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var found []string
	for _, entry := range entries {
		fd := filepath.Join(dir, entry.Name())
		target, err := os.Readlink(fd)
		if err == nil && filepath.Base(strings.TrimSuffix(target, " (deleted)")) == name {
			found = append(found, fd)
		}
	}
	return found
}
