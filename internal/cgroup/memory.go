package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// version is how a version of cgroups says how much memory a group has and may have.
type version struct {
	limit, used string
	reclaimable []string // the counts in memory.stat of what the kernel takes back when the group needs it
	events      string
}

var (
	version1 = version{"memory.limit_in_bytes", "memory.usage_in_bytes", []string{"total_inactive_file", "total_active_file"}, "memory.oom_control"}
	version2 = version{"memory.max", "memory.current", []string{"inactive_file", "active_file", "slab_reclaimable"}, "memory.events"}
)

// noLimit is more than any limit: version 1 says 2^63 less a page where there is none.
const noLimit = 1 << 62

// limits is where the memory of a process's groups is limited: its own group, and where the hierarchy is mounted.
type limits struct {
	version
	dir, mount string
}

// memoryOf finds them by the texts of /proc/<pid>/cgroup and mountinfo. A hybrid system limits memory by version 1, or not at all.
func memoryOf(cgroup, mountinfo string) (limits, error) {
	if dir, mount, err := ownMemory(cgroup, mountinfo); err == nil {
		return limits{version1, dir, mount}, nil
	}
	dir, mount, err := own(cgroup, mountinfo)
	return limits{version2, dir, mount}, err
}

// MemoryAvailable is how much main memory can be had: by the machine, and by the limits of this process's groups, in which
// what it starts is, too. It is 0 when that is not known.
func MemoryAvailable() uint64 {
	free, err := procfs.MemoryAvailable()
	if left, limited := MemoryLeft(); limited && (err != nil || left < free) {
		return max(left, 1)
	}
	return free
}

// left is what the groups up to the mount let their processes still take; false where none has a limit.
func (m limits) left() (left uint64, limited bool) {
	for dir := m.dir; ; dir = filepath.Dir(dir) {
		limit, err := number(filepath.Join(dir, m.limit))
		used, err2 := number(filepath.Join(dir, m.used))
		if err == nil && err2 == nil && limit < noLimit {
			for _, key := range m.reclaimable {
				n, _ := value(filepath.Join(dir, "memory.stat"), key)
				used -= min(used, n)
			}
			if n := limit - min(limit, used); !limited || n < left {
				left, limited = n, true
			}
		}
		if dir == m.mount || len(dir) <= len(m.mount) {
			return left, limited
		}
	}
}

// number reads a file of one number; "max" is none.
func number(path string) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
}
