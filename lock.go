package provisioner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// replicaLock is the lock on a replica. It is held by the open file, which the engine inherits, and so by whichever of
// the provisioner and the engine's processes lives longest.
type replicaLock struct{ file *os.File }

// errLocked says that a process holds the lock.
var errLocked = errors.New("locked")

// lock takes the lock or returns errLocked. For up to a quarter of a second it tries again: a program that is between
// fork and exec holds copies of all its descriptors.
func (f replicaFiles) lock() (*replicaLock, error) {
	deadline := time.Now().Add(250 * time.Millisecond)
	for {
		l, err := f.tryLock()
		if !errors.Is(err, errLocked) || time.Now().After(deadline) {
			return l, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (f replicaFiles) tryLock() (*replicaLock, error) {
	for {
		file, err := os.OpenFile(f.lockPath(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("cannot open the lock file: %w", err)
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			file.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, errLocked
			}
			return nil, fmt.Errorf("cannot lock %q: %w", f.lockPath(), err)
		}
		// A file that was replaced between opening and locking would let two hold "the" lock.
		held, err := file.Stat()
		if err == nil {
			var current fs.FileInfo
			if current, err = os.Lstat(f.lockPath()); err == nil && os.SameFile(held, current) {
				return &replicaLock{file}, nil
			}
		}
		file.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot lock %q: %w", f.lockPath(), err)
		}
	}
}

// release closes this program's copy. The lock is free when no inherited copy is left; it is never unlocked
// explicitly, since that would unlock the engine's copy too.
func (l *replicaLock) release() { _ = l.file.Close() }

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
