package state

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

const managerLockName = "manager.lock"

// managerPatience is how long a new manager waits for the old one, which may be on its way out after an upgrade.
const managerPatience = 2 * time.Second

// ManagerLock is the path of the lock that the manager of a state directory holds.
func ManagerLock(dir string) string { return filepath.Join(dir, managerLockName) }

// TakeManager makes this program the manager of the state directory. With ErrHeld, holder is the one that has it, as far as that
// can be read.
func TakeManager(dir string) (l *Lock, holder Note, err error) {
	path := ManagerLock(dir)
	for deadline := time.Now().Add(managerPatience); ; time.Sleep(50 * time.Millisecond) {
		l, err := TakeLock(path, time.Until(deadline))
		if errors.Is(err, ErrHeld) {
			holder, _ := ReadNote(path)
			return nil, holder, err
		}
		if err != nil {
			return nil, Note{}, err
		}
		holder, there := robbedManager(dir, l)
		if !there {
			l.SignFor(dir)
			return l, Note{}, nil
		}
		l.Release()
		if time.Now().After(deadline) {
			return nil, holder, ErrHeld
		}
	}
}

// robbedManager finds a manager of the state directory that holds a lock whose file somebody has removed or moved, as with
// the whole directory. It takes the lock again within a second; until then nobody else may.
func robbedManager(dir string, own *Lock) (n Note, there bool) {
	held, err := own.file.Stat()
	if err != nil {
		return n, false
	}
	dir = realPath(dir)
	for _, pid := range procfs.FlockHolders() {
		for file := range procfs.OpenFiles(pid, managerLockName) {
			info, err := file.Stat()
			if err != nil || os.SameFile(info, held) {
				continue
			}
			data, err := read(file, file.Name())
			if err == nil && json.Unmarshal(data, &n) == nil && n.State == dir && n.Process.PID == pid {
				return n, true
			}
		}
	}
	return Note{}, false
}

// realPath is path without symbolic links, where that can be told.
func realPath(path string) string {
	if path == "" {
		return ""
	}
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	return path
}

// Managed reports whether a manager has the state directory.
func Managed(dir string) bool { return Locked(ManagerLock(dir)) }
