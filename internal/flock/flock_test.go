package flock

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A copy of the descriptor, as a child has one until its exec, does not keep what was given back.
func TestCloseIsForAllCopies(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	for name, take := range map[string]func(*os.File) error{"alone": Try, "shared": TryShared} {
		first := open(t, path)
		if err := take(first); err != nil {
			t.Fatal(name, err)
		}
		second := open(t, path)
		if err := Try(second); !errors.Is(err, ErrHeld) {
			t.Errorf("%s: it was taken twice (%v)", name, err)
		}
		dup, err := unix.FcntlInt(first.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		inherited := os.NewFile(uintptr(dup), "copy")
		defer inherited.Close()
		Close(first)
		if err := Try(second); err != nil {
			t.Errorf("%s: a copy keeps it (%v)", name, err)
		}
		Close(second)
	}
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
