package provisioner

import (
	"context"
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
)

// fileLock is a lock on a file. It belongs to the open file, and so to every process that has inherited it: a replica's
// lock is held by whichever of the provisioner and the engine's processes lives longest.
type fileLock struct{ file *os.File }

// errLocked says that a process holds the lock.
var errLocked = errors.New("locked")

// lock takes the replica's lock or returns errLocked.
func (f replicaFiles) lock() (*fileLock, error) { return lockFile(f.lockPath(), 250*time.Millisecond) }

// busy says who holds the replica.
func busy(files replicaFiles) error {
	rec, err := files.readRecord()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: a process holds %q, and of which launch it is cannot be told: %w", ErrBusy, files.lockPath(), err)
	}
	if err != nil || rec.State.Final() {
		return fmt.Errorf("%w: another process holds %q", ErrBusy, files.lockPath())
	}
	if rec.Process.PID == 0 {
		return fmt.Errorf("%w: another provisioner is starting this replica", ErrBusy)
	}
	return fmt.Errorf("%w: it runs already (pid %d, since %s); stop it first (engine-provisioner stop)",
		ErrBusy, rec.Process.PID, rec.StartedAt.Local().Format(time.DateTime))
}

// lockFile takes a lock of the state directory or returns errLocked. It tries again for as long as patience: a program
// that is between fork and exec holds copies of all its descriptors.
func lockFile(path string, patience time.Duration) (*fileLock, error) {
	deadline := time.Now().Add(patience)
	for {
		l, err := tryLock(path)
		if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("%w, or set another \"state_dir\"", err)
		}
		if !errors.Is(err, errLocked) || time.Now().After(deadline) {
			return l, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func tryLock(path string) (*fileLock, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if errors.Is(err, unix.ELOOP) {
			return nil, fmt.Errorf("cannot open the lock file %q: it is a symbolic link; remove it", path)
		}
		if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("cannot open the lock file: %w; make its folder writable", err)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot open the lock file: %w", err)
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			file.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, errLocked
			}
			return nil, fmt.Errorf("cannot lock %q: %w", path, err)
		}
		// A file that was replaced between opening and locking would let two hold "the" lock.
		held, err := file.Stat()
		if err == nil {
			var current fs.FileInfo
			if current, err = os.Lstat(path); err == nil && os.SameFile(held, current) {
				if err = checkOwnFile(path, current); err == nil {
					return &fileLock{file}, nil
				}
			}
		}
		file.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot lock %q: %w", path, err)
		}
	}
}

// release closes this program's copy. The lock is free when no inherited copy is left; it is never unlocked
// explicitly, since that would unlock the engine's copy too.
func (l *fileLock) release() { _ = l.file.Close() }

// awaitLock waits for a lock until ctx ends. waiting is called about every two seconds as long as another process holds it.
func awaitLock(ctx context.Context, path string, waiting func()) (*fileLock, error) {
	const first, longest, period = 5 * time.Millisecond, 250 * time.Millisecond, 2 * time.Second
	var next time.Time
	for pause := first; ; pause = min(2*pause, longest) {
		l, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return l, err
		}
		// A program that is between fork and exec holds it for milliseconds.
		if now := time.Now(); pause == longest && now.After(next) {
			next = now.Add(period)
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another process is at work with %q: %w", path, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// lockNote is what the file of a lock tells of who took it last. The lock itself is the open file, whatever stands in it.
type lockNote struct {
	Process proc.ID   `json:"process"`
	Host    string    `json:"host"` // a folder on a network disk may be locked by another machine
	Since   time.Time `json:"since"`
	State   string    `json:"state,omitempty"` // of a manager: its state directory, also when the file is removed or moved
}

// at reports whether the lock is still that of the file at path.
func (l *fileLock) at(path string) bool {
	held, err := l.file.Stat()
	if err != nil {
		return true // nobody can tell
	}
	now, err := os.Lstat(path)
	return err == nil && os.SameFile(held, now) || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// sign notes who has the lock, for those who wait for it.
func (l *fileLock) sign() { l.signFor("") }

// signFor is sign of a manager of the state directory.
func (l *fileLock) signFor(state string) {
	host, _ := os.Hostname()
	data, err := json.Marshal(lockNote{proc.Identify(os.Getpid()), host, time.Now().UTC().Truncate(time.Second), realPath(state)})
	if err == nil && l.file.Truncate(0) == nil {
		_, _ = l.file.WriteAt(append(data, '\n'), 0)
	}
}

func readLockNote(path string) (n lockNote, ok bool) {
	data, err := readState(path)
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
func lockManager(state string) (*fileLock, error) {
	path := filepath.Join(state, managerLockName)
	for deadline := time.Now().Add(managerPatience); ; time.Sleep(50 * time.Millisecond) {
		l, err := lockFile(path, time.Until(deadline))
		if errors.Is(err, errLocked) {
			n, _ := readLockNote(path)
			return nil, &LockedError{StateDir: state, PID: n.Process.PID, Host: n.Host}
		}
		if err != nil {
			return nil, err
		}
		n, there := robbedManager(state, l)
		if !there {
			l.signFor(state)
			return l, nil
		}
		l.release()
		if time.Now().After(deadline) {
			return nil, &LockedError{StateDir: state, PID: n.Process.PID, Host: n.Host}
		}
	}
}

// robbedManager finds a manager of the state directory that holds a lock whose file somebody has removed or moved, as with
// the whole directory. It takes the lock again within a second; until then nobody else may.
func robbedManager(state string, own *fileLock) (n lockNote, there bool) {
	held, err := own.file.Stat()
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
func managed(state string) bool { return locked(filepath.Join(state, managerLockName)) }

// locked reports whether a process holds the lock. It looks by a shared lock, which nobody waits for.
func locked(path string) bool {
	file, err := openNoFollow(path)
	if err != nil {
		return false
	}
	defer file.Close()
	return errors.Is(unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// inodeOf names a file's content holder, with its change time: a file that was replaced or written has another.
func inodeOf(f *os.File) string {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d:%d.%d", st.Dev, st.Ino, st.Ctim.Sec, st.Ctim.Nsec)
}

func openNoFollow(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}
