package enginetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Leftovers returns the pids of the engines, and of children of engines, that this test process started through
// [Install] or [InstallAt] and that are alive now, in ascending order. Zombies do not
// count.
func Leftovers() []int {
	var pids []int
	for pid, cmdline := range commandLines() {
		if pid != os.Getpid() && strings.Contains(cmdline, marker) && strings.Contains(cmdline, cookie()) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// settleTime is what engines that are ending get for it. On a machine at load 20 two seconds were not enough.
const settleTime = 15 * time.Second

// settledLeftovers gives processes that were just told to end up to limit to be gone.
func settledLeftovers(limit time.Duration) []int {
	deadline := time.Now().Add(limit)
	for {
		pids := Leftovers()
		if len(pids) == 0 || time.Now().After(deadline) {
			return pids
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// commandLines returns the command line of every process that this user may see.
func commandLines() map[int]string {
	if runtime.GOOS != "linux" {
		return psCommandLines()
	}
	all := map[int]string{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // gone meanwhile
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			all[pid] = strings.ReplaceAll(string(data), "\x00", " ")
		}
	}
	return all
}

func psCommandLines() map[int]string {
	all := map[int]string{}
	out, _ := exec.Command("ps", "-axww", "-o", "pid=,command=").Output()
	for line := range strings.Lines(string(out)) {
		pid, cmdline, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.Atoi(pid); err == nil {
			all[n] = cmdline
		}
	}
	return all
}

// describe shortens the command line of pid for a message.
func describe(pid int) string {
	const limit = 300
	s := commandLines()[pid]
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return s
}
