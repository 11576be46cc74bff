// Package access says why a file or folder cannot be used: what it is, whose it is, and with which mode.
//
// Whoever cannot open a file or socket calls it, for the message. It decides nothing and changes no mode.
package access

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	if unix.Access(path, rights[want]) != unix.EACCES {
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

// rights are the words for what may be wanted of a file, as access(2) asks for them.
var rights = map[string]uint32{"read": unix.R_OK, "write": unix.W_OK, "execute": unix.X_OK, "enter": unix.X_OK}

// belongs stands in every text that names an owner.
const belongs = ", which belongs to "

// Remedy is what to do about what Denied says.
const Remedy = "run as the owner, or give this user the right (chmod, chown)"

// Explain adds to an error of a missing right whose the file, folder or socket is, its mode, and what to do. Any other error, and
// one that says so already, it returns as it is.
func Explain(err error) error {
	if !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), belongs) {
		return err
	}
	if why := because(err); why != "" {
		return fmt.Errorf("%w: %s; %s", err, why, Remedy)
	}
	return err
}

// because says what is denied, of the file that an error names.
func because(err error) string {
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		return firstDenied(filepath.Dir(link.New), "write")
	}
	if socket, ok := errors.AsType[*net.OpError](err); ok && socket.Net == "unix" && socket.Addr != nil {
		return firstDenied(socket.Addr.String(), "write")
	}
	file, ok := errors.AsType[*fs.PathError](err)
	switch {
	case !ok:
		return ""
	case file.Op == "fork/exec":
		return firstDenied(file.Path, "execute")
	}
	if why := firstDenied(file.Path, "read", "write"); why != "" {
		return why
	}
	if why := firstDenied(filepath.Dir(file.Path), "write"); why != "" { // it is made, or removed
		return why
	}
	return describe(file.Path, "change") // as only its owner may
}

func firstDenied(path string, wants ...string) string {
	for _, want := range wants {
		if why := Denied(path, want); why != "" {
			return why
		}
	}
	return ""
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
	mode := info.Mode().Perm()
	text := fmt.Sprintf("%s may not %s %q%s%s and has mode %#o", User(os.Geteuid()), want, path, belongs, User(int(st.Uid)), mode)
	if right, known := rights[want]; known && uint32(mode)>>3&right == right {
		if g, err := user.LookupGroupId(strconv.Itoa(int(st.Gid))); err == nil {
			text += fmt.Sprintf(" (members of the group %q may)", g.Name)
		}
	}
	return text
}

// User is a user, by name and number.
func User(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return fmt.Sprintf("user %s (uid %d)", u.Username, uid)
	}
	return fmt.Sprintf("uid %d", uid)
}

// Owner is the user to whom a file belongs; "" where that cannot be told.
func Owner(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return User(int(st.Uid))
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
