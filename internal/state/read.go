package state

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/access"
)

// Read reads a small file that this package wrote. A link, a pipe or an oversized file in its place is refused.
func Read(path string) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return read(f, path)
}

func read(f *os.File, path string) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot read %q: it is a %s", path, access.Kind(info))
	}
	const limit = 1 << 20
	// With room for one more byte than there is said to be, so that the end is seen.
	into := bytes.NewBuffer(make([]byte, 0, min(info.Size(), limit)+bytes.MinRead+1))
	_, err = into.ReadFrom(io.LimitReader(f, limit+1))
	if err == nil && into.Len() > limit {
		err = fmt.Errorf("cannot read %q: larger than 1 MiB", path)
	}
	return into.Bytes(), err
}

// CheckOwn refuses to write into what is no file of our own: a special file, or another name of somebody's file.
func CheckOwn(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q is a %s; remove it", path, access.Kind(info))
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		return fmt.Errorf("%q is another name (hard link) of a file; remove it", path)
	}
	return nil
}

// Open opens a file to read. It follows no link and waits for no writer of a pipe.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	return f, access.Explain(err)
}
