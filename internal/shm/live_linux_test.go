package shm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const pageSize = 4096

// object is a new file below /dev/shm, or in a folder of it.
func object(t *testing.T, folder string) string {
	t.Helper()
	f, err := os.CreateTemp(folder, "engine-provisioner test ")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(f.Name()) })
	if err := errors.Join(f.Truncate(pageSize), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// mapped has this process map a file; calling what is returned ends that.
func mapped(t *testing.T, path string, protection, flags int) (unmap func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := syscall.Mmap(int(f.Fd()), 0, pageSize, protection, flags)
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = syscall.Munmap(data) }
}

const writable = syscall.PROT_READ | syscall.PROT_WRITE

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

// Only what the noted process can have made is removed; each row differs from the first in one thing.
func TestRemove(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("/dev/shm", "engine-provisioner test ")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	outside := t.TempDir()
	earlier := time.Now().Add(-time.Minute)
	for name, c := range map[string]struct {
		folder     string
		protection int
		flags      int
		since      time.Time
		named      func(path string) []string
		between    func(t *testing.T, path string)
		removed    bool
	}{
		"made by the tree":      {removed: true},
		"in a folder":           {folder: folder},
		"only read":             {protection: syscall.PROT_READ},
		"a private copy":        {flags: syscall.MAP_PRIVATE},
		"older than the launch": {since: time.Now().Add(time.Hour)},
		"named":                 {named: func(path string) []string { return Named("/", []string{"--state=" + path}) }},
		"named through a link":  {named: func(path string) []string { return Named(outside, []string{link(t, outside, path)}) }},
		"the folder is named":   {named: func(string) []string { return Named("/", []string{"/dev/shm"}) }},
		"another is named":      {named: func(string) []string { return Named("/", []string{"/dev/shm/other", outside}) }, removed: true},
		"has a second name": {between: func(t *testing.T, path string) {
			if err := os.Link(path, path+"-2"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Remove(path + "-2") })
		}},
		"replaced by another": {between: func(t *testing.T, path string) {
			if err := os.Rename(object(t, "/dev/shm"), path); err != nil {
				t.Fatal(err)
			}
		}},
		"open in a process": {between: func(t *testing.T, path string) {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
		}},
		"mapped by a process, to be read": {between: func(t *testing.T, path string) {
			t.Cleanup(mapped(t, path, syscall.PROT_READ, syscall.MAP_SHARED))
		}},
		"another user's": {between: func(t *testing.T, path string) {
			if os.Getuid() != 0 {
				t.Skip("needs root")
			}
			if err := os.Chown(path, 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.folder == "" {
				c.folder = "/dev/shm"
			}
			if c.protection == 0 {
				c.protection = writable
			}
			if c.flags == 0 {
				c.flags = syscall.MAP_SHARED
			}
			if c.since.IsZero() {
				c.since = earlier
			}
			path := object(t, c.folder)
			var named []string
			if c.named != nil {
				named = c.named(path)
			}
			unmap := mapped(t, path, c.protection, c.flags)
			var left Leftovers
			left.Note(os.Getpid())
			unmap()
			if c.between != nil {
				c.between(t, path)
			}
			// Other tests map objects of their own here meanwhile.
			for id, p := range left.objects {
				if p != path {
					delete(left.objects, id)
				}
			}
			if err := left.Remove(c.since, named, []int{os.Getpid(), 1 << 30}); err != nil {
				t.Error(err)
			}
			if exists(path) == c.removed {
				t.Errorf("removed: %v", !c.removed)
			}
			if len(left.Paths()) > 0 && !c.removed {
				t.Errorf("still noted: %v", left.objects)
			}
		})
	}
}

func link(t *testing.T, folder, to string) string {
	t.Helper()
	if err := os.Symlink(to, filepath.Join(folder, filepath.Base(to))); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(to)
}

// A semaphore as glibc makes it: the name that its maker has mapped is gone, and the object has another.
func TestSemaphore(t *testing.T) {
	t.Parallel()
	f, err := os.CreateTemp("/dev/shm", "sem.")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(pageSize), f.Close()); err != nil {
		t.Fatal(err)
	}
	defer mapped(t, f.Name(), writable, syscall.MAP_SHARED)()
	final := f.Name() + "-linked"
	t.Cleanup(func() { _ = os.Remove(final) })
	if err := errors.Join(os.Link(f.Name(), final), os.Remove(f.Name())); err != nil {
		t.Fatal(err)
	}
	id, _ := identify(final)
	if got := made(os.Getpid()); got[id] != final {
		t.Errorf("%q is missing in %v", final, got)
	}
}

func TestMade(t *testing.T) {
	t.Parallel()
	path := object(t, "/dev/shm")
	id, ok := identify(path)
	if !ok {
		t.Fatal("cannot be identified")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := made(os.Getpid())[id]; ok {
		t.Error("an open file counts as mapped")
	}
	unmap := mapped(t, path, writable, syscall.MAP_SHARED)
	if got := made(os.Getpid()); got[id] != path {
		t.Errorf("%q is missing in %v", path, got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, ok := made(os.Getpid())[id]; ok {
		t.Errorf("an unlinked object is listed: %q", got)
	}
	unmap()
	if got := made(1 << 30); got != nil {
		t.Errorf("of no process: %v", got)
	}
}

// What a program leaves that was written in another language and killed. Python's multiprocessing is what vLLM uses.
func TestPythonLeftovers(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3")
	}
	// Without its resource tracker, as after a SIGKILL of the whole tree.
	cmd := exec.Command(python, "-c", `
import multiprocessing.shared_memory, multiprocessing.resource_tracker, _multiprocessing, os, sys
multiprocessing.resource_tracker.register = lambda *a: None
m = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
s = _multiprocessing.SemLock(1, 1, 1, "/mp-ep-%d" % os.getpid(), False)
print(m.name, s.name, flush=True)
sys.stdin.read()`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	since := time.Now().Add(-time.Minute)
	var memory, semaphore string
	if _, err := fmt.Fscan(out, &memory, &semaphore); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/dev/shm/" + memory, "/dev/shm/sem." + semaphore[1:]}
	for _, path := range paths {
		t.Cleanup(func() { _ = os.Remove(path) })
		if !exists(path) {
			t.Fatalf("%q is not there", path)
		}
	}
	var left Leftovers
	left.Note(cmd.Process.Pid)
	if err := left.Remove(since, nil, []int{cmd.Process.Pid}); err != nil {
		t.Error(err)
	}
	if !exists(paths[0]) || !exists(paths[1]) {
		t.Error("removed from a living process")
	}
	left.Note(cmd.Process.Pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if err := left.Remove(since, nil, []int{cmd.Process.Pid, os.Getpid()}); err != nil {
		t.Error(err)
	}
	for _, path := range paths {
		if exists(path) {
			t.Errorf("%q is left", path)
		}
	}
}
