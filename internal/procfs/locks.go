package procfs

import (
	"os"
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
