// Package logcap makes log files smaller in place, oldest bytes first, while another process appends to them. That
// process must have opened the file with O_APPEND; it is neither told nor stopped.
//
// Whoever keeps a log calls it. It has no goroutine: its caller says when to look.
package logcap

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/flock"
)

// Block is what a file is cut by: every cut is a whole number of blocks, so that a reader can find its place again.
const Block = 4096

// Cap cuts the file's oldest bytes when more than limit are there, and then leaves about three quarters of limit, so
// that the next cut is not due at once. It tells how many bytes are left. A file that another Cap is at work on is left alone.
func Cap(path string, limit int64) (int64, error) {
	f, err := Open(path)
	if err != nil {
		return 0, err
	}
	defer flock.Close(f)
	return CapFile(f, limit)
}

// CapFile is Cap of an open file, which may have lost its name.
func CapFile(f *os.File, limit int64) (int64, error) {
	left, err := capFile(f, limit)
	if err != nil {
		return left, fmt.Errorf("cannot cap the log %q: %w", f.Name(), err)
	}
	return left, nil
}

// Open opens a regular file and nothing else: a pipe in its place must not block, a link not lead elsewhere.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot cap a log: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("cannot cap the log %q: it is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func capFile(f *os.File, limit int64) (int64, error) {
	// Two that cut at the same time, each by what it has measured before, would cut twice.
	if err := flock.Try(f); err != nil {
		if errors.Is(err, flock.ErrHeld) {
			err = nil
		}
		return limit, err
	}
	first, size, err := extent(f)
	if err != nil || size-first <= limit {
		return size - first, err
	}
	end := size - limit/4*3
	for _, cut := range cuts {
		if err = cut(f, first, end); err == nil {
			break
		}
	}
	if first, size, e := extent(f); e == nil {
		return size - first, err
	}
	return limit, err
}

// extent is where the data of a file begins, after a hole that a cut has left, and where it ends.
func extent(f *os.File) (first, size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	return min(FirstData(f), info.Size()), info.Size(), nil
}

// copyTruncate moves the newest bytes to the file's beginning and cuts the rest off. What the writer appends meanwhile
// is moved, too. Only bytes that come in the microseconds between the last look and the cut are lost, which is why the
// other ways come first.
func copyTruncate(f *os.File, _, end int64) error {
	from, to := end/Block*Block, int64(0)
	if from == 0 {
		return nil
	}
	buf := make([]byte, 1<<20)
	for {
		n, err := f.ReadAt(buf, from)
		if n == 0 && errors.Is(err, io.EOF) {
			return f.Truncate(to)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := f.WriteAt(buf[:n], to); err != nil {
			return err
		}
		from, to = from+int64(n), to+int64(n)
	}
}

// Usage is how much disk space a file takes: holes take none.
func Usage(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return min(info.Size(), st.Blocks*512)
	}
	return info.Size()
}
