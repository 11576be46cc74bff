package atomicfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFullDisk proves that a disk without room costs the new content, never the old.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("cannot run, and CI must: mounting a tmpfs needs root: ", err)
		}
		t.Skip("mounting a tmpfs needs root: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "file")
	write(t, path, "old")
	if err := Write(path, bytes.Repeat([]byte("x"), 2<<20)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("2 MiB onto a disk of 1 MiB: %v", err)
	}
	wantFolder(t, dir, map[string]string{"file": "old"})
	write(t, path, "new") // and the failure left its room
	wantFolder(t, dir, map[string]string{"file": "new"})
}
