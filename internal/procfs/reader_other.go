//go:build !linux

package procfs

import (
	"errors"
	"os"
)

// Only Linux has /proc as it is read here.

func (r *Reader) read(pid int, name string, _ bool) ([]byte, error) {
	return os.ReadFile(path(pid, name))
}

// Each is for Linux alone.
func (r *Reader) Each(func(pid int, inode uint64)) error { return errors.ErrUnsupported }
