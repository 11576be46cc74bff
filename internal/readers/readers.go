// Package readers lets other users of the machine read one file in a folder that is otherwise nobody else's.
//
// The store of a state directory calls it, for handoffs. It opens no folder further than that one file needs, and gives nobody the right to
// write.
package readers

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// Readers are those who may read a file beside its owner. The zero value of Mode stands for nobody.
type Readers struct {
	Mode fs.FileMode // 0600, 0640 or 0644
	GID  int         // the group of the file; -1 leaves it as it is
}

// Of resolves what is configured: a mode in octal, "" for the group's where there is one, and a group's name or number, ""
// for none.
func Of(mode, group string) (Readers, error) {
	r := Readers{Mode: 0o600, GID: -1}
	if group != "" {
		r.Mode = 0o640
		gid, err := gidOf(group)
		if err != nil {
			return r, err
		}
		r.GID = gid
	}
	if mode != "" {
		n, err := strconv.ParseUint(mode, 8, 9)
		if err != nil {
			return r, fmt.Errorf("%q is no mode", mode)
		}
		r.Mode = fs.FileMode(n)
	}
	return r, nil
}

func gidOf(group string) (int, error) {
	if gid, err := strconv.Atoi(group); err == nil && gid >= 0 {
		return gid, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("no group %q is known on this machine", group)
	}
	return strconv.Atoi(g.Gid)
}

// Read lets them list a folder and look into it, as long as they may pass the folders above it.
func (r Readers) Read(dir string) error { return r.let(dir, 0o055) }

// Pass lets them go through a folder to what they know the name of, and no more.
func (r Readers) Pass(dir string) error { return r.let(dir, 0o011) }

// let adds permissions, and takes none away: others may need those that are there.
func (r Readers) let(dir string, bits fs.FileMode) error {
	switch {
	case r.Mode&0o004 != 0:
	case r.Mode&0o040 != 0:
		bits &= 0o070
	default:
		return nil
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if r.GID >= 0 && gidOfFile(info) != r.GID {
		if err := os.Lchown(dir, -1, r.GID); err != nil {
			return err
		}
	}
	if mode := info.Mode().Perm(); mode&bits != bits {
		return os.Chmod(dir, mode|bits)
	}
	return nil
}

// Has reports whether a file has just these readers.
func (r Readers) Has(info fs.FileInfo) bool {
	return info.Mode().Perm() == r.Mode && (r.GID < 0 || gidOfFile(info) == r.GID)
}

func gidOfFile(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return -1
}
