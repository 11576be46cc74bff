package fleet

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/feed"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

func TestEventFileOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=700"); err != nil {
		skip(t, "mounting a tmpfs needs root: "+err.Error())
	}
	t.Cleanup(func() {
		// A process that another test is just starting has all files of this one until its exec.
		eventually(t, "nobody has a file of it open", func() bool { return syscall.Unmount(dir, 0) == nil })
	})
	f := &feed.File{Dir: dir}
	event := func(n int) provisioner.Event {
		e := numbered(n)
		e.Message = strings.Repeat("y", 60_000)
		return e
	}
	if failures := keepAll(f, event(1), event(2), event(3), event(4), event(5), event(6)); len(failures) != 1 || !errors.Is(failures[0], syscall.ENOSPC) {
		t.Errorf("failures: %v", failures)
	}
	kept := keptEvents(t, dir) // whole lines alone
	if len(kept) != 4 || f.Lost != 2 {
		t.Errorf("%d events kept, %d lost", len(kept), f.Lost)
	}
	if err := os.Rename(filepath.Join(dir, state.EventsName), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is room again", func() bool {
		var fs syscall.Statfs_t
		return syscall.Statfs(dir, &fs) == nil && fs.Bavail*uint64(fs.Bsize) > 200_000
	})
	keepAll(f, event(7))
	if kept := keptEvents(t, dir); len(kept) != 1 || kept[0].Missed != 2 {
		t.Errorf("with room again: %d events", len(kept))
	}
}
