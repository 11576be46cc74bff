package procfs

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A descriptor that was a file a moment ago is a pipe now, with something in it. It was opened and read once: what somebody
// had written for another was gone, and the reader hung.
func TestOpenFilesTakesNothingFromPipes(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "test.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("mine"); err != nil {
		t.Fatal(err)
	}

	stop, swapped := make(chan struct{}), make(chan struct{})
	halt := sync.OnceFunc(func() { close(stop); <-swapped })
	defer halt()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(swapped)
		for from := int(r.Fd()); ; {
			select {
			case <-stop:
				return
			default:
			}
			_ = unix.Dup3(from, fd, unix.O_CLOEXEC)
			_ = unix.Dup3(int(file.Fd()), fd, unix.O_CLOEXEC)
		}
	}()
	for range 500 {
		for f := range OpenFiles(os.Getpid(), "test.lock") {
			if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
				t.Fatalf("opened %v (%v)", info, err)
			}
		}
		if f := OpenMoved(os.Getpid(), file.Name()); f != nil {
			t.Fatalf("%s is not what this program prints to", f.Name())
		}
	}
	halt()
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if left, err := io.ReadAll(r); err != nil || string(left) != "mine" {
		t.Errorf("the pipe has %q (%v)", left, err)
	}
}
