package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/flock"
)

// Lock is a lock on a file. It belongs to the open file, and so to every process that has inherited it: a replica's
// lock is held by whichever of the provisioner and the engine's processes lives longest.
type Lock struct {
	file   *os.File
	shared bool
}

// ErrHeld says that a process holds the lock.
var ErrHeld = flock.ErrHeld

// Lock takes the replica's lock or returns ErrHeld.
func (f Files) Lock() (*Lock, error) { return TakeLock(f.LockPath(), 250*time.Millisecond) }

// TakeLock takes a lock of the state directory or returns ErrHeld. It tries again for as long as patience: a program
// that is between fork and exec holds copies of all its descriptors.
func TakeLock(path string, patience time.Duration) (*Lock, error) {
	deadline := time.Now().Add(patience)
	for {
		l, err := TryLock(path)
		if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("%w, or set another \"state_dir\"", err)
		}
		if !errors.Is(err, ErrHeld) || time.Now().After(deadline) {
			return l, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TryLock takes the lock of a file, which is made where it is missing, or returns ErrHeld.
func TryLock(path string) (*Lock, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if errors.Is(err, unix.ELOOP) {
			return nil, fmt.Errorf("cannot open the lock file %q: it is a symbolic link; remove it", path)
		}
		if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("cannot open the lock file: %w; make its folder writable", access.Explain(err))
		}
		if err != nil {
			return nil, fmt.Errorf("cannot open the lock file: %w", err)
		}
		if err := flock.Try(file); err != nil {
			file.Close()
			if errors.Is(err, ErrHeld) {
				return nil, ErrHeld
			}
			return nil, fmt.Errorf("cannot lock %q: %w", path, err)
		}
		// A file that was replaced between opening and locking would let two hold "the" lock.
		held, err := file.Stat()
		if err == nil {
			var current fs.FileInfo
			if current, err = os.Lstat(path); err == nil && os.SameFile(held, current) {
				if err = CheckOwn(path, current); err == nil {
					return &Lock{file: file}, nil
				}
			}
		}
		flock.Close(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot lock %q: %w", path, err)
		}
	}
}

// Share gives the lock to the processes that inherit the file: it is theirs, too, until the last of them has ended.
func (l *Lock) Share() *os.File {
	l.shared = true
	return l.file
}

// Release gives the lock back. One that is shared is left to those who have inherited it.
func (l *Lock) Release() {
	if l.shared {
		_ = l.file.Close()
		return
	}
	flock.Close(l.file)
}

// AwaitLock waits for a lock until ctx ends. waiting is called about every two seconds as long as another process holds it.
func AwaitLock(ctx context.Context, path string, waiting func()) (*Lock, error) {
	const first, longest, period = 5 * time.Millisecond, 250 * time.Millisecond, 2 * time.Second
	var next time.Time
	for pause := first; ; pause = min(2*pause, longest) {
		l, err := TryLock(path)
		if !errors.Is(err, ErrHeld) {
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

// At reports whether the lock is still that of the file at path.
func (l *Lock) At(path string) bool {
	held, err := l.file.Stat()
	if err != nil {
		return true // nobody can tell
	}
	now, err := os.Lstat(path)
	return err == nil && os.SameFile(held, now) || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// Locked reports whether a process holds the lock. It looks by a shared lock, which nobody waits for.
func Locked(path string) bool {
	file, err := Open(path)
	if err != nil {
		return false
	}
	defer flock.Close(file)
	return errors.Is(flock.TryShared(file), ErrHeld)
}
