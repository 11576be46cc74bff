package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/llama-orch/engine-provisioner/internal/access"
)

// Create makes the folders of a state directory, for this user alone.
func Create(dir string) error {
	return create(dir, filepath.Join(dir, handoffsName), filepath.Join(dir, RequestsName))
}

// Create makes the folders, for this user alone.
func (f Files) Create() error {
	if err := Create(f.State); err != nil {
		return err
	}
	return create(f.Dir(), f.Logs())
}

func create(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return cannotCreate(dir, err)
		}
		if err := CheckPrivate(dir); err != nil {
			return err
		}
		if denied := access.Denied(dir, "write"); denied != "" {
			return fmt.Errorf("cannot use the state directory: %s; run as the owner, or set another \"state_dir\"", denied)
		}
	}
	return nil
}

// cannotCreate says what is in the way of a folder.
func cannotCreate(dir string, err error) error {
	const doing = "cannot create the state directory: %w"
	parent := dir
	for parent != filepath.Dir(parent) {
		if info, statErr := os.Stat(parent); statErr == nil && !info.IsDir() {
			return fmt.Errorf(doing+": %q is a %s; %s", err, parent, access.Kind(info), instead(info))
		} else if statErr == nil {
			break
		}
		parent = filepath.Dir(parent)
	}
	if denied := access.Denied(parent, "write"); denied != "" {
		return fmt.Errorf(doing+": %s; run as the owner, or set another \"state_dir\"", err, denied)
	}
	if access.Exists(parent) && errors.Is(err, fs.ErrNotExist) { // as below /proc
		return fmt.Errorf(doing+": no folders can be made in %q; set another \"state_dir\"", err, parent)
	}
	return fmt.Errorf(doing+"; make its parent writable or set \"state_dir\"", err)
}

// instead is what to do about a file that is in the way of a state directory. Devices are nobody's to remove.
func instead(info fs.FileInfo) string {
	if kind := info.Mode().Type(); kind == 0 || kind == fs.ModeSymlink {
		return "remove it or set another \"state_dir\""
	}
	return "set another \"state_dir\""
}

// CheckPrivate refuses a folder in which another user could replace our files.
func CheckPrivate(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("cannot use the state directory: %w", access.Explain(err))
	case !info.IsDir():
		return fmt.Errorf("cannot use %q as a state directory: it is a %s; %s", dir, access.Kind(info), instead(info))
	case !Ours(info):
		return fmt.Errorf("cannot use %q as a state directory: it belongs to another user, %s, who could replace what is in it; run as the owner, or set another \"state_dir\"", dir, access.Owner(info))
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("cannot use %q as a state directory: others may write to it (mode %#o); %s", dir, info.Mode().Perm(), closing(dir, info))
	}
	return nil
}

// CheckFolder refuses what is no folder at the path of a state directory: nobody may take it for one in which nothing runs.
func CheckFolder(dir string) error {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("cannot look into %q: it is a %s, not a state directory; %s", dir, access.Kind(info), instead(info))
	}
	return nil
}

// closing says what to do about a folder that others may write to. A volume's own folder has the mode that its driver
// gives it (of Kubernetes' emptyDir 0777), and belongs to root.
func closing(dir string, info fs.FileInfo) string {
	own, _ := info.Sys().(*syscall.Stat_t)
	above, err := os.Stat(filepath.Dir(dir))
	mounted := err == nil && above.Sys().(*syscall.Stat_t).Dev != own.Dev
	if mounted || int(own.Uid) != os.Geteuid() {
		return fmt.Sprintf("set \"state_dir\" to a folder below it, such as %q, which is made", filepath.Join(dir, "state"))
	}
	return "run chmod 700 on it"
}

// Ours reports whether a file is this user's, or root's, who can do everything anyway.
func Ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (int(st.Uid) == os.Geteuid() || st.Uid == 0)
}
