package provisioner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// busy says who holds the replica.
func busy(files replicaFiles) error {
	rec, err := files.readRecord()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: a process holds %q, and of which launch it is cannot be told: %w", ErrBusy, files.LockPath(), err)
	}
	if err != nil || rec.State.Final() {
		return fmt.Errorf("%w: another process holds %q", ErrBusy, files.LockPath())
	}
	if rec.Process.PID == 0 {
		return fmt.Errorf("%w: another provisioner is starting this replica", ErrBusy)
	}
	return fmt.Errorf("%w: it runs already (pid %d, since %s); stop it first (engine-provisioner stop)",
		ErrBusy, rec.Process.PID, rec.StartedAt.Local().Format(time.DateTime))
}

// lockNote is what the file of a lock tells of who took it last. The lock itself is the open file, whatever stands in it.
type lockNote struct {
	Process proc.ID   `json:"process"`
	Host    string    `json:"host"` // a folder on a network disk may be locked by another machine
	Since   time.Time `json:"since"`
	State   string    `json:"state,omitempty"` // of a manager: its state directory, also when the file is removed or moved
}

// sign notes who has the lock, for those who wait for it.
func sign(l *state.Lock) { signFor(l, "") }

// signFor is sign of a manager of the state directory.
func signFor(l *state.Lock, state string) {
	host, _ := os.Hostname()
	data, err := json.Marshal(lockNote{proc.Identify(os.Getpid()), host, time.Now().UTC().Truncate(time.Second), realPath(state)})
	if err == nil && l.File.Truncate(0) == nil {
		_, _ = l.File.WriteAt(append(data, '\n'), 0)
	}
}

func readLockNote(path string) (n lockNote, ok bool) {
	data, err := state.Read(path)
	return n, err == nil && json.Unmarshal(data, &n) == nil && n.Process.PID > 0
}

// String names the process for people, such as "pid 4711 (since 2026-11-24 13:04:05)".
func (n lockNote) String() string {
	host, _ := os.Hostname()
	boot, err := proc.ThisBoot()
	switch {
	case n.Process.PID == os.Getpid() && err == nil && boot.PIDNS == n.Process.PIDNS:
		return "another replica"
	case n.Host != host:
		return fmt.Sprintf("pid %d on %q (since %s)", n.Process.PID, n.Host, n.Since.Local().Format(time.DateTime))
	}
	return fmt.Sprintf("pid %d (since %s)", n.Process.PID, n.Since.Local().Format(time.DateTime))
}

// gone reports whether that process is known to have ended. Others that it started may hold the lock all the same.
func (n lockNote) gone() bool {
	boot, err := proc.ThisBoot()
	if err != nil || boot.BootID == "" || boot.BootID != n.Process.BootID || boot.PIDNS != n.Process.PIDNS {
		return false // of another machine or container, which cannot be seen from here
	}
	p, err := proc.Find(n.Process)
	if err == nil {
		p.Close()
	}
	return errors.Is(err, proc.ErrGone)
}

// LockedError says who manages the state directory.
type LockedError struct {
	StateDir string
	PID      int    // 0 when the holder could not be read
	Host     string // where the holder runs: a state directory on a network disk may be another machine's
}

func (e *LockedError) Error() string {
	holder := "another manager"
	if e.PID > 0 {
		holder = fmt.Sprintf("the manager with pid %d on %q", e.PID, e.Host)
	}
	return fmt.Sprintf("cannot manage %q: %s holds it; stop that one, or choose another \"state_dir\"", e.StateDir, holder)
}
func (e *LockedError) Unwrap() error { return ErrLocked }

const managerLockName = "manager.lock"

// managerPatience is how long a new manager waits for the old one, which may be on its way out after an upgrade.
const managerPatience = 2 * time.Second

// lockManager makes this program the manager of the state directory.
func lockManager(dir string) (*state.Lock, error) {
	path := filepath.Join(dir, managerLockName)
	for deadline := time.Now().Add(managerPatience); ; time.Sleep(50 * time.Millisecond) {
		l, err := state.TakeLock(path, time.Until(deadline))
		if errors.Is(err, state.ErrHeld) {
			n, _ := readLockNote(path)
			return nil, &LockedError{StateDir: dir, PID: n.Process.PID, Host: n.Host}
		}
		if err != nil {
			return nil, err
		}
		n, there := robbedManager(dir, l)
		if !there {
			signFor(l, dir)
			return l, nil
		}
		l.Release()
		if time.Now().After(deadline) {
			return nil, &LockedError{StateDir: dir, PID: n.Process.PID, Host: n.Host}
		}
	}
}

// robbedManager finds a manager of the state directory that holds a lock whose file somebody has removed or moved, as with
// the whole directory. It takes the lock again within a second; until then nobody else may.
func robbedManager(state string, own *state.Lock) (n lockNote, there bool) {
	held, err := own.File.Stat()
	if err != nil {
		return n, false
	}
	state = realPath(state)
	for _, pid := range procfs.FlockHolders() {
		for _, file := range procfs.OpenFiles(pid, managerLockName) {
			info, err := os.Stat(file)
			if err != nil || os.SameFile(info, held) {
				continue
			}
			data, err := os.ReadFile(file)
			if err == nil && json.Unmarshal(data, &n) == nil && n.State == state && n.Process.PID == pid {
				return n, true
			}
		}
	}
	return lockNote{}, false
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

// managed reports whether a manager has the state directory.
func managed(dir string) bool { return state.Locked(filepath.Join(dir, managerLockName)) }

// inodeOf names a file's content holder, with its change time: a file that was replaced or written has another.
func inodeOf(f *os.File) string {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d:%d.%d", st.Dev, st.Ino, st.Ctim.Sec, st.Ctim.Nsec)
}
