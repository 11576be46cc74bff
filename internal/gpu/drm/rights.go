package drm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// denied says why this user cannot use a device file, and what to do; "" when he can.
func (t Tree) denied(name string) string {
	path, shown := filepath.Join(t.Dev, name), filepath.Join("/dev", name)
	err := t.Open(path)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("there is no %s here; a container needs it passed in", shown)
	case errors.Is(err, syscall.EPERM): // the group of devices, and not the file's mode
		return fmt.Sprintf("this container may not open %s; pass that device in", shown)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s cannot open %s; %s", currentUser(), shown, remedy(path))
	}
	return fmt.Sprintf("cannot open %s: %v", shown, err)
}

func openDevice(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func currentUser() string {
	if u, err := user.Current(); err == nil {
		return fmt.Sprintf("the user %q", u.Username)
	}
	return fmt.Sprintf("the user %d", os.Getuid())
}

// remedy is to join the file's group, where that would do.
func remedy(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "give this user the right to read and write it"
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm()&0o060 != 0o060 || stat.Gid == 0 {
		return "give this user the right to read and write it: its group is usually render or video, with the mode 0660"
	}
	group := strconv.FormatUint(uint64(stat.Gid), 10)
	if g, err := user.LookupGroupId(group); err == nil {
		return fmt.Sprintf("add it to the group %s (\"usermod -aG %s USER\") and log in again", g.Name, g.Name)
	}
	return fmt.Sprintf("run this with the group %s, which has no name here", group)
}
