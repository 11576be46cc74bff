package provisioner

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// mountTmpfs gives the folder of a new tmpfs.
func mountTmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		skip(t, "cannot mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestLogFloodOnTmpfs is TestLogFlood where a file can get a hole and not shrink.
func TestLogFloodOnTmpfs(t *testing.T) {
	t.Parallel()
	const rate = 12 << 20
	cfg := fakeConfig(t, enginetest.Behavior{LogFlood: rate})
	cfg.StateDir = filepath.Join(mountTmpfs(t, "1g"), "state")
	floodCapped(t, cfg, rate, 4<<20)
}

// TestDiskFull has an engine fill the disk with its log. It lives on, is cut, and stops as it should.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	disk := mountTmpfs(t, "1m")
	cfg.StateDir = filepath.Join(disk, "state")
	cfg.Logs.MaxSize = 256 << 10
	p, _ := ready(t, cfg)
	enginetest.Flood(t, p.Status().URL, 8<<20) // not before the handoff is written
	eventually(t, "a full disk", func() bool {
		var sys unix.Statfs_t
		return unix.Statfs(disk, &sys) == nil && sys.Bavail == 0
	})
	if status := statusAt(t, p.Status().URL+"/health"); status != 200 {
		t.Errorf("the engine answers %d", status)
	}
	eventually(t, "room again", func() bool {
		var sys unix.Statfs_t
		return unix.Statfs(disk, &sys) == nil && sys.Bavail*uint64(sys.Bsize) > 512<<10
	})
	if !alive(p.Status().PID) {
		t.Error("the engine died of the full disk")
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}
