package procfs

import "os"

// OpenDeleted opens the file that a process prints to if it once had this path and has no name any more; nil if it does
// not, or if that cannot be seen.
func OpenDeleted(pid int, file string) *os.File {
	for _, fd := range []string{"fd/1", "fd/2"} {
		if target, err := os.Readlink(path(pid, fd)); err != nil || target != file+" (deleted)" {
			continue
		}
		f, err := os.OpenFile(path(pid, fd), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return f
		}
		f.Close()
	}
	return nil
}
