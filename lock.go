package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// fileLock is a lock on a file. It belongs to the open file, and so to every process that has inherited it: a replica's
// lock is held by whichever of the provisioner and the engine's processes lives longest.
type fileLock struct{ file *os.File }

// errLocked says that a process holds the lock.
var errLocked = errors.New("locked")

// lock takes the replica's lock or returns errLocked.
func (f replicaFiles) lock() (*fileLock, error) { return lockFile(f.lockPath(), 250*time.Millisecond) }

// lockFile takes a lock or returns errLocked. It tries again for as long as patience: a program that is between fork and
// exec holds copies of all its descriptors.
func lockFile(path string, patience time.Duration) (*fileLock, error) {
	deadline := time.Now().Add(patience)
	for {
		l, err := tryLock(path)
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

// awaitLock waits for a lock until ctx ends. waiting is called once when another process holds it.
func awaitLock(ctx context.Context, path string, waiting func()) (*fileLock, error) {
	const first, longest = 5 * time.Millisecond, 250 * time.Millisecond
	for pause := first; ; pause = min(2*pause, longest) {
		l, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return l, err
		}
		if pause == longest { // a program that is between fork and exec holds it for milliseconds
			waiting()
			waiting = func() {}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another process is at work with %q: %w", path, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
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
	l, err := lockFile(path, managerPatience)
	if errors.Is(err, errLocked) {
		e := &LockedError{StateDir: state}
		if data, err := readState(path); err == nil {
			_, _ = fmt.Sscanf(string(data), "%d %s", &e.PID, &e.Host)
		}
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	// For people and for LockedError alone: the lock is the open file, whatever stands in it.
	if err := l.file.Truncate(0); err == nil {
		_, _ = l.file.WriteAt(fmt.Appendf(nil, "%d %s\n", os.Getpid(), host), 0)
	}
	return l, nil
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
