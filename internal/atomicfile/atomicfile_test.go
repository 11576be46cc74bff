package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := Write(path, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

// wantFolder fails the test unless the folder holds exactly these files: name and content.
func wantFolder(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		content, known := want[entry.Name()]
		if !known {
			t.Errorf("%s is left", entry.Name())
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil || string(data) != content {
			t.Errorf("%s holds %.100q (%v), want %.100q", entry.Name(), data, err, content)
		}
	}
	if len(entries) < len(want) {
		t.Errorf("%d files, want %d", len(entries), len(want))
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"first", "", "a longer third"} {
		write(t, path, content)
		wantFolder(t, dir, map[string]string{"file": content})
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v (%v)", info.Mode(), err)
		}
	}
}

// TestWriteTightensMode proves that a file that others could read is not kept that way.
func TestWriteTightensMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	write(t, path, "new")
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
}

func TestWriteReplacesSymlink(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	victim, path := filepath.Join(elsewhere, "victim"), filepath.Join(dir, "file")
	write(t, victim, "precious")
	if err := os.Symlink(victim, path); err != nil {
		t.Fatal(err)
	}
	write(t, path, "new")
	wantFolder(t, elsewhere, map[string]string{"victim": "precious"})
	wantFolder(t, dir, map[string]string{"file": "new"})
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("still a %v (%v)", info.Mode(), err)
	}
}

// Whatever lies at the name of a new file, what it leads to stays as it is, and nobody waits.
func TestNewReplacesWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("all"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(path string) error{
		"nothing":   func(string) error { return nil },
		"file":      func(path string) error { return os.WriteFile(path, []byte("old"), 0o644) },
		"link":      func(path string) error { return os.Symlink(precious, path) },
		"hard link": func(path string) error { return os.Link(precious, path) },
		"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		path := filepath.Join(dir, name)
		if err := plant(path); err != nil {
			t.Fatal(err)
		}
		f, err := New(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, err = f.WriteString("new")
		if err := errors.Join(err, f.Close()); err != nil {
			t.Error(err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != "new" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		if data, err := os.ReadFile(precious); err != nil || string(data) != "all" {
			t.Errorf("%s: what it led to is %q, %v", name, data, err)
		}
	}
}

func TestWriteFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Write(filepath.Join(dir, "none", "file"), nil); err == nil {
		t.Error("wrote into no folder")
	}
	// A folder that holds something cannot be replaced: the rename fails, when all is written.
	path := filepath.Join(dir, "folder")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(path, "inside"), "old")
	if err := Write(path, []byte("new")); err == nil {
		t.Error("replaced a folder")
	}
	wantFolder(t, path, map[string]string{"inside": "old"})
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v (%v)", entries, err)
	}
}

// TestConcurrent proves that no reader sees a part, a mixture or no file at all, whoever writes.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	const writers, writes, size = 4, 50, 64 << 10
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	content := func(writer int) []byte { return bytes.Repeat([]byte{byte('a' + writer)}, size) }
	write(t, path, string(content(0)))
	var done atomic.Bool
	var reading, writing sync.WaitGroup
	for range 2 {
		reading.Go(func() {
			for reads := 0; !done.Load() || reads == 0; reads++ {
				data, err := os.ReadFile(path)
				if err != nil || len(data) != size || !bytes.Equal(data, content(int(data[0]-'a'))) {
					t.Errorf("torn: %d bytes (%v)", len(data), err)
					return
				}
			}
		})
	}
	for writer := range writers {
		writing.Go(func() {
			for range writes {
				if err := Write(path, content(writer)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v (%v)", entries, err)
	}
}

func TestSyncDir(t *testing.T) {
	t.Parallel()
	if err := SyncDir(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := SyncDir(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no folder: %v", err)
	}
}

// TestClear proves that it removes what is left of a killed Write to this path, and nothing else.
func TestClear(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	write(t, path, "content")
	for _, name := range []string{".tmp-file-1", ".tmp-file-22", ".tmp-file2-1", ".tmp-other-1"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Clear(path); err != nil {
		t.Fatal(err)
	}
	wantFolder(t, dir, map[string]string{"file": "content", ".tmp-file2-1": "", ".tmp-other-1": ""})
	if err := Clear(filepath.Join(dir, "absent", "file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent folder: %v", err)
	}
}
