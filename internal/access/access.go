// Package access says why a file or folder cannot be used: what it is, whose it is, and with which mode.
//
// Whoever cannot open a file calls it, for the message. It decides nothing and changes no mode.
package access

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Denied says, for people, what keeps this process from what it wants of path, "read", "write" or "execute": a folder on the way
// that it may not enter, or the file itself. It returns "" when nothing does, or when that cannot be told.
func Denied(path, want string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	mode := map[string]uint32{"read": unix.R_OK, "write": unix.W_OK, "execute": unix.X_OK}[want]
	if unix.Access(path, mode) != unix.EACCES {
		return "" // nor does any folder on the way
	}
	var folders []string
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		folders = append(folders, dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for _, dir := range slices.Backward(folders) {
		if unix.Access(dir, unix.X_OK) == unix.EACCES {
			return describe(dir, "enter")
		}
	}
	return describe(path, want)
}

// Kind is what a file is, in the words of errors, such as "pipe".
func Kind(info fs.FileInfo) string {
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	case mode.IsDir():
		return "folder"
	case mode.IsRegular():
		return "regular file"
	case mode&fs.ModeNamedPipe != 0:
		return "pipe"
	default:
		return "special file"
	}
}

// Exists reports whether something is at path, a link that leads nowhere included.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Existing is the nearest folder at or above path that exists.
func Existing(path string) string {
	for {
		info, err := os.Stat(path)
		if err == nil && info.IsDir() || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

func describe(path, want string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	me := os.Geteuid()
	return fmt.Sprintf("%s may not %s %q, which belongs to %s and has mode %#o", name(me), want, path, name(int(st.Uid)), info.Mode().Perm())
}

func name(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return "user " + u.Username
	}
	return fmt.Sprintf("uid %d", uid)
}

// SameFile reports whether two paths are of one file. Those that are equal are, whatever has become of it.
func SameFile(a, b string) bool {
	if a == b {
		return true
	}
	first, err := os.Stat(a)
	second, also := os.Stat(b)
	return err == nil && also == nil && os.SameFile(first, second)
}
