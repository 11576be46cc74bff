package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// reclaimable are the counts of memory that the kernel takes back when a group needs it.
var reclaimable = []string{"inactive_file", "active_file", "slab_reclaimable"}

// MemoryAvailable is how much main memory can be had: by the machine, and by the limits of this process's groups, in which
// what it starts is, too. It is 0 when that is not known.
func MemoryAvailable() uint64 {
	free, err := procfs.MemoryAvailable()
	if left, limited := MemoryLeft(); limited && (err != nil || left < free) {
		return max(left, 1)
	}
	return free
}

// memoryLeft is what the groups from dir up to the mount let their processes still take; false where none has a limit.
func memoryLeft(dir, mount string) (left uint64, limited bool) {
	for {
		limit, err := number(filepath.Join(dir, "memory.max"))
		used, err2 := number(filepath.Join(dir, "memory.current"))
		if err == nil && err2 == nil {
			for _, key := range reclaimable {
				n, _ := value(filepath.Join(dir, "memory.stat"), key)
				used -= min(used, n)
			}
			if n := limit - min(limit, used); !limited || n < left {
				left, limited = n, true
			}
		}
		if dir == mount || len(dir) <= len(mount) {
			return left, limited
		}
		dir = filepath.Dir(dir)
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
