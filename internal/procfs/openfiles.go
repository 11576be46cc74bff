package procfs

import (
	"iter"
	"os"
	"path/filepath"
	"strings"
)

// OpenFiles opens, for reading, the regular files that a process has open and that are called name, or were when they were
// removed. Each is closed after its turn.
func OpenFiles(pid int, name string) iter.Seq[*os.File] {
	called := func(target string) bool { return filepath.Base(strings.TrimSuffix(target, deleted)) == name }
	return func(yield func(*os.File) bool) {
		dir := path(pid, "fd")
		entries, err := os.ReadDir(dir)
		if err != nil {
			return
		}
		for _, entry := range entries {
			fd := filepath.Join(dir, entry.Name())
			if target, err := os.Readlink(fd); err != nil || !called(target) {
				continue // most are others, and looking costs less than taking hold
			}
			f := openFile(fd, os.O_RDONLY, called)
			if f == nil {
				continue
			}
			more := yield(f)
			f.Close()
			if !more {
				return
			}
		}
	}
}
