package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/flock"
)

// Lock waits for the lock file at path and returns how to let go of it. waiting is called once when another process
// holds it. It is a flock, like the locks of huggingface_hub, and ends with the process that holds it. The file stays;
// whoever removes it must hold it.
func Lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	const first, longest = 10 * time.Millisecond, 250 * time.Millisecond
	for pause := first; ; pause = min(2*pause, longest) {
		file, err := tryLock(path)
		if file != nil {
			return func() { flock.Close(file) }, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot lock %q: %w", path, err)
		}
		if pause == first {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another process holds %q: %w", path, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// TryLock takes the lock file at path; ok is false when another process holds it.
func TryLock(path string) (unlock func(), ok bool, err error) {
	file, err := tryLock(path)
	if file == nil {
		return nil, false, err
	}
	return func() { flock.Close(file) }, true, nil
}

// tryLock returns nil when another process holds the lock.
func tryLock(path string) (*os.File, error) {
	for {
		// Not 0600: the cache of models may be shared by a group, as its owner's umask says.
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o666)
		if errors.Is(err, fs.ErrNotExist) { // whoever tidies up has removed the folder as well
			err = os.MkdirAll(filepath.Dir(path), 0o777)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		if err := flock.Try(file); err != nil {
			file.Close()
			if errors.Is(err, flock.ErrHeld) {
				return nil, nil
			}
			return nil, err
		}
		// Whoever tidies up removes the file, as some versions of Python's filelock do when they let go of it.
		held, err := file.Stat()
		if err == nil {
			if current, err := os.Lstat(path); err == nil && os.SameFile(held, current) {
				return file, nil
			}
		}
		flock.Close(file)
		if err != nil {
			return nil, err
		}
	}
}

// Locked reports whether a process holds the lock file at path.
func Locked(path string) bool {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer flock.Close(file)
	return errors.Is(flock.Try(file), flock.ErrHeld)
}
