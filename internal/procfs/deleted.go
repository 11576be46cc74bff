package procfs

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const deleted = " (deleted)"

// OpenMoved opens the file that a process prints to if it once had this path: one that has no name any more, or another name
// in the same folder, as logrotate gives it. It is nil if the process prints to none such, or if that cannot be seen.
func OpenMoved(pid int, file string) *os.File {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(file)); err == nil {
		file = filepath.Join(dir, filepath.Base(file))
	}
	for _, fd := range []string{"fd/1", "fd/2"} {
		f := openFile(path(pid, fd), os.O_RDWR, func(target string) bool {
			return target != file && (target == file+deleted || filepath.Dir(target) == filepath.Dir(file))
		})
		if f != nil {
			return f
		}
	}
	return nil
}

// NameOf is the name that an open file has now; "" when it has none, or when that cannot be seen.
func NameOf(f *os.File) string {
	target, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil || strings.HasSuffix(target, deleted) {
		return ""
	}
	return target
}
