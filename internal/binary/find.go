// Package binary finds the executables of engines on this node, and learns what they are by asking them.
//
// Whoever plans or starts a launch calls it. It brings no executable here, starts no engine, and keeps nothing but facts in
// the folder that it is given.
package binary

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/exefile"
)

// Error says that the executable is missing or cannot be used.
type Error struct{ Err error }

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Wanted is an executable that is looked for.
type Wanted struct {
	Name string // a path, or a name that is looked up in Path
	Dir  string // what a relative path refers to
	Path string // the folders of executables, as PATH has them
	Key  string // of the configuration, by which it can be named
	Else string // how it can be had where it is not there, as a line of the configuration; "" where that is not known
}

// Find finds the executable. What it returns can be run by this user, and replaced by no other.
func (w Wanted) Find() (string, error) {
	path, err := w.find()
	if err != nil {
		return "", &Error{err}
	}
	return path, nil
}

func (w Wanted) find() (string, error) {
	path := w.Name
	if !strings.ContainsRune(w.Name, filepath.Separator) {
		found, err := lookPath(w.Name, w.Path)
		if err != nil {
			return "", w.notInPath()
		}
		path = found
	} else if !filepath.IsAbs(path) {
		path = filepath.Join(w.Dir, path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch mode := fileMode(info); {
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("cannot look at the engine's executable: %w; or set %q", access.Explain(err), w.Key)
	case err != nil:
		if why := access.Missing(path); why != "" && errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s", err, why)
		}
		return "", fmt.Errorf("cannot find the engine's executable: %w; set %q", err, w.Key)
	case !mode.IsRegular():
		return "", fmt.Errorf("the engine's executable %q is a %s; name the executable file", path, access.Kind(info))
	case mode.Perm()&0o111 == 0 && exefile.Problem(path) != "":
		return "", fmt.Errorf("the engine's executable %q cannot be run: %s; name the executable file", path, exefile.Problem(path))
	case mode.Perm()&0o111 == 0:
		return "", fmt.Errorf("the engine's executable %q is not executable; run chmod +x on it", path)
	case mode.Perm()&0o002 != 0:
		return "", fmt.Errorf("the engine's executable %q can be replaced by any user (mode %#o); run chmod o-w on it", path, mode.Perm())
	case mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return "", fmt.Errorf("the engine's executable %q is setuid or setgid; an engine must run as the user who starts it", path)
	}
	return path, nil
}

// notInPath says how an executable can be had that is not there.
func (w Wanted) notInPath() error {
	where := "in PATH"
	if w.Path == "" {
		where = "in PATH, which is empty"
	}
	if w.Else != "" {
		return fmt.Errorf("no executable %q %s; install it, name it in %q, or have it brought: write %q", w.Name, where, w.Key, w.Else)
	}
	return fmt.Errorf("no executable %q %s; install it, or name it in %q", w.Name, where, w.Key)
}

// lookPath is exec.LookPath for a PATH that need not be this program's.
func lookPath(name, searchPath string) (string, error) {
	if searchPath == os.Getenv("PATH") {
		return exec.LookPath(name)
	}
	for _, dir := range filepath.SplitList(searchPath) {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err == nil && filepath.IsAbs(dir) && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

func fileMode(info fs.FileInfo) fs.FileMode {
	if info == nil {
		return 0
	}
	return info.Mode()
}
