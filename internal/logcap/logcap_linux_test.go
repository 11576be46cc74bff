package logcap

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mount gives the folder of a new file system, or skips the test.
func mount(t *testing.T, fsType, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(fsType, dir, fsType, 0, options); err != nil {
		if os.Getenv("CI") != "" && !errors.Is(err, unix.EPERM) {
			t.Fatal(err)
		}
		t.Skip("cannot mount " + fsType + ": " + err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestCapUnderWriter caps a log again and again while lines are appended, by each way that the file system has.
func TestCapUnderWriter(t *testing.T) {
	t.Parallel()
	t.Run("tmpfs", func(t *testing.T) {
		t.Parallel()
		dir := mount(t, "tmpfs", "size=64m")
		f, err := os.Create(filepath.Join(dir, "probe"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(1 << 20); err != nil {
			t.Fatal(err)
		}
		if err := collapse(f, 0, 1<<16); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("tmpfs can collapse: %v", err)
		}
		if size := underWriter(t, filepath.Join(dir, "log")); size < 1<<20 {
			t.Errorf("the size is %d: no hole was punched", size)
		}
	})
	t.Run("here", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "log")
		size := underWriter(t, path)
		var fs unix.Statfs_t
		if err := unix.Statfs(path, &fs); err != nil {
			t.Fatal(err)
		}
		if fs.Type == unix.EXT4_SUPER_MAGIC && size > 1<<20 {
			t.Errorf("the size is %d: it was not collapsed", size)
		}
	})
}

func underWriter(t *testing.T, path string) int64 {
	t.Helper()
	const limit, lines = 256 << 10, 1 << 17
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cuts, written := make(chan bool), make(chan error)
	go func() {
		for n := 0; n < lines; n += 64 {
			if _, err := w.Write(numbered(n, n+64)); err != nil {
				written <- err
				return
			}
			if n%(4<<10) == 0 {
				cuts <- true // a cut begins, and more is written meanwhile
			}
		}
		written <- nil
	}()
	for done := false; !done; {
		select {
		case <-cuts:
			if _, err := Cap(path, limit); err != nil {
				t.Error(err)
			}
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		}
	}
	left, err := Cap(path, limit)
	if err != nil || left > limit {
		t.Errorf("%d bytes left (%v)", left, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if used := Usage(info); used > limit+Block {
		t.Errorf("it takes %d bytes", used)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	checkNumbered(t, data, lines-1)
	return info.Size()
}

// TestCapOnlyOnce holds that two caps at the same time do not cut twice.
func TestCapOnlyOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, numbered(0, 1<<14), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := Cap(path, 1<<16); err != nil {
		t.Error(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 1<<18 {
		t.Errorf("cut by two at once: %v (%v)", info.Size(), err)
	}
}
