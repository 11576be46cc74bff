package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// errNotDelegated says that the cgroup belongs to whoever made it.
var errNotDelegated = errors.New("not delegated to this process")

// Delegated is the cgroup that was delegated to this process: its own one or, with systemd's DelegateSubgroup=, the one
// above. systemd marks what it delegates (since version 236); without the mark another program, most often systemd
// itself, owns the tree, and nobody else may change it, be he able to or not.
func Delegated() (Base, error) {
	dir, mount, err := ofThisProcess()
	if err != nil {
		return Base{}, err
	}
	return delegated(dir, mount)
}

// MemoryLeft is how many bytes of memory the limits of this process's cgroups still let it take; false where there is no
// limit.
func MemoryLeft() (left uint64, limited bool) {
	m, err := memoryOfThisProcess()
	if err != nil {
		return 0, false
	}
	return m.left()
}

func memoryOfThisProcess() (limits, error) {
	cgroup, mountinfo, err := thisProcess()
	if err != nil {
		return limits{}, err
	}
	return memoryOf(cgroup, mountinfo)
}

func ofThisProcess() (dir, mount string, err error) {
	cgroup, mountinfo, err := thisProcess()
	if err != nil {
		return "", "", err
	}
	return own(cgroup, mountinfo)
}

// thisProcess is what the kernel says of the groups of this process, and of where they are mounted.
func thisProcess() (cgroup, mountinfo string, err error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", "", err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	return string(groups), string(mounts), err
}

func delegated(dir, mount string) (Base, error) {
	for _, path := range []string{dir, filepath.Dir(dir)} {
		if path == filepath.Dir(mount) {
			break
		}
		if !marked(path) {
			continue
		}
		if err := unix.Access(path, unix.W_OK|unix.X_OK); err != nil {
			return Base{}, fmt.Errorf("cannot make cgroups below %q: %w", path, err)
		}
		return Base{path}, nil
	}
	return Base{}, errNotDelegated
}

// marked looks for systemd's mark. The one of the user namespace came with version 251; the other one only root can see.
func marked(path string) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		var mark [2]byte
		if n, err := unix.Getxattr(path, name, mark[:]); err == nil && n == 1 && mark[0] == '1' {
			return true
		}
	}
	return false
}
