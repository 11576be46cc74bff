package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Frozen reports whether the process is frozen with its cgroup, as by "docker pause", in either version. Such a process
// looks to /proc like one that waits. It is false where that cannot be seen.
func Frozen(pid int) bool {
	groups, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return false
	}
	return frozen(string(groups), "/sys/fs/cgroup")
}

// frozen looks for the groups of a process, as /proc tells them, below the usual mount of all hierarchies.
func frozen(groups, mount string) bool {
	for line := range strings.Lines(groups) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		switch controllers {
		case "":
			for _, root := range []string{mount, filepath.Join(mount, "unified")} {
				if n, ok := value(filepath.Join(root, path, "cgroup.events"), "frozen"); ok && n == 1 {
					return true
				}
			}
		case "freezer":
			state, err := os.ReadFile(filepath.Join(mount, "freezer", path, "freezer.state"))
			if err == nil && strings.TrimSpace(string(state)) != "THAWED" {
				return true
			}
		}
	}
	return false
}
