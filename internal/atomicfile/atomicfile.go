// Package atomicfile replaces a file so that a reader sees the old content or the new, never a part, also after a
// loss of power.
//
// Whoever keeps a file calls it, and nobody else replaces one. It knows nothing of what is in the files, and takes no lock.
package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/llama-orch/engine-provisioner/internal/access"
)

// TempPattern matches the temporary files of Write, Replace and Exchange.
const TempPattern = tempPrefix + "*"

const tempPrefix = ".tmp-"

// tempOf is how the names of the temporary files for path begin.
func tempOf(path string) string { return tempPrefix + filepath.Base(path) + "-" }

// Torn tells the name of the file that a temporary file was to become, by its own name; false for a file that is none.
func Torn(name string) (string, bool) {
	rest, temp := strings.CutPrefix(name, tempPrefix)
	if i := strings.LastIndexByte(rest, '-'); temp && i >= 0 {
		return rest[:i], true
	}
	return name, false
}

// Write replaces path by data with mode 0600. A symbolic link at path is replaced, not followed. When Write fails, the
// old content is intact and no temporary file is left; only when the last step fails, which makes the new name last
// through a loss of power, the new content is there already.
func Write(path string, data []byte) error {
	if err := Replace(path, data); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Replace is Write without the last step: after a loss of power the old content may be there again, whole. It is for what is
// said of processes, which a loss of power ends, and takes half the time.
func Replace(path string, data []byte) error { return ReplaceFor(path, data, 0o600, -1) }

// ReplaceFor is Replace with another mode and, unless it is -1, group. Nobody sees the file with less than these.
func ReplaceFor(path string, data []byte, mode fs.FileMode, gid int) error {
	return replace(path, data, mode, gid, (*os.File).Sync)
}

// Add is ReplaceFor where nothing may be at path: what is there stays, and is fs.ErrExist. On a file system without hard links what
// comes there while it writes is replaced.
func Add(path string, data []byte, mode fs.FileMode, gid int) error {
	return put(path, data, mode, gid, (*os.File).Sync, func(from, to string) error {
		err := os.Link(from, to)
		if errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported) {
			return os.Rename(from, to)
		}
		if err != nil {
			return err
		}
		return os.Remove(from)
	})
}

// Exchange is Replace without waiting for the disk: after a loss of power there may be the old content, the new, or, on
// filesystems that write the name before the content, a file of zeros or of nothing; see Hollow. It is for what is written again
// and again of processes that a loss of power ends.
func Exchange(path string, data []byte) error {
	return replace(path, data, 0o600, -1, func(*os.File) error { return nil })
}

// Hollow reports whether a file has the content of an Exchange that a loss of power has cut short: none, or zeros.
func Hollow(data []byte) bool { return len(bytes.Trim(data, "\x00")) == 0 }

func replace(path string, data []byte, mode fs.FileMode, gid int, settle func(*os.File) error) error {
	return put(path, data, mode, gid, settle, os.Rename)
}

// put writes a temporary file, and names it path by what name does.
func put(path string, data []byte, mode fs.FileMode, gid int, settle func(*os.File) error, name func(from, to string) error) error {
	dir := filepath.Dir(path)
	// CreateTemp opens with O_EXCL and 0600, so a planted link is never followed.
	f, err := os.CreateTemp(dir, tempOf(path)+"*")
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", path, access.Explain(err))
	}
	if gid >= 0 {
		err = f.Chown(-1, gid)
	}
	if err == nil && mode != 0o600 {
		err = f.Chmod(mode)
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = settle(f)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = name(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write %q: %w", path, access.Explain(err)), os.Remove(f.Name()))
	}
	return nil
}

// New makes an empty file at path, to be read and written, in the place of a file, a link or a pipe that is there. What that is a
// link to, or another name of, is kept.
func New(path string) (*os.File, error) {
	if err := Remove(path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// Clear removes what a Write to path left that was killed. Nothing may write to path meanwhile: it would fail.
func Clear(path string) error {
	dir := filepath.Dir(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot look for torn writes of %q: %w", path, err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), tempOf(path)) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, entry.Name())))
		}
	}
	return err
}

// Remove removes a file or an empty folder; one that is gone already is no error.
func Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return access.Explain(err)
	}
	return nil
}

// SyncDir makes the creation, renaming and removal of files in dir last through a loss of power.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot sync %q: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cannot sync %q: %w", dir, err)
	}
	return nil
}
