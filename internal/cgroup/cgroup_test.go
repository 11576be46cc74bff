package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestOwn(t *testing.T) {
	t.Parallel()
	const unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
	const hybrid = "40 35 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
		"41 35 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	tests := map[string]struct{ cgroup, mountinfo, dir, mount string }{
		"unified":       {"0::/system.slice/ep.service\n", unified, "/sys/fs/cgroup/system.slice/ep.service", "/sys/fs/cgroup"},
		"root":          {"0::/\n", unified, "/sys/fs/cgroup", "/sys/fs/cgroup"},
		"hybrid":        {"4:memory:/x\n0::/a b\n", hybrid, "/sys/fs/cgroup/unified/a b", "/sys/fs/cgroup/unified"},
		"container":     {"0::/docker/1/x\n", "1 2 0:3 /docker/1 /sys/fs/cgroup ro - cgroup2 cgroup ro\n", "/sys/fs/cgroup/x", "/sys/fs/cgroup"},
		"elsewhere":     {"0::/docker/1\n", "1 2 0:3 /docker/2 /sys/fs/cgroup ro - cgroup2 cgroup ro\n", "", ""},
		"outside":       {"0::/../../x\n", unified, "/sys/fs/cgroup/x", "/sys/fs/cgroup"},
		"blank":         {"0::/x\n", `1 2 0:3 / /my\040cg rw - cgroup2 cgroup2 rw` + "\n", "/my cg/x", "/my cg"},
		"version 1":     {"4:memory:/x\n", "40 35 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", "", ""},
		"not mounted":   {"0::/x\n", "1 2 0:3 / / rw - ext4 /dev/sda1 rw\n", "", ""},
		"broken mounts": {"0::/x\n", "1 2 - cgroup2\n\n-\n", "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, mount, err := own(tt.cgroup, tt.mountinfo)
			if dir != tt.dir || mount != tt.mount || (err != nil) != (tt.dir == "") {
				t.Errorf("own: %q, %q, %v", dir, mount, err)
			}
		})
	}
}

func FuzzOwn(f *testing.F) {
	f.Add("0::/a\n", "30 23 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n")
	f.Fuzz(func(t *testing.T, cgroup, mountinfo string) {
		dir, mount, err := own(cgroup, mountinfo)
		if err == nil && (dir == "" || mount == "") || err != nil && !errors.Is(err, errNone) {
			t.Errorf("own: %q, %q, %v", dir, mount, err)
		}
	})
}

func TestNoGroup(t *testing.T) {
	t.Parallel()
	none := Open("")
	if none != nil || none.Kill() != nil || none.Remove() != nil || none.Populated() || none.Processes() != nil {
		t.Error("no group does something")
	}
	if _, _, known := none.OOMKills(); known {
		t.Error("no group counts")
	}
	gone := Open(filepath.Join(t.TempDir(), "gone"))
	if gone.Kill() != nil || gone.Remove() != nil || gone.Populated() || len(gone.Processes()) > 0 {
		t.Error("a group that is gone does something")
	}
}

func TestOOM(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	events := filepath.Join(dir, "memory.events")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(events, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, known := (Base{dir}).WatchOOM().Kills(); known {
		t.Error("counted without a file")
	}
	write("low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\noom_group_kill 0\n")
	watch := Base{dir}.WatchOOM()
	if n, where, known := watch.Kills(); n != 0 || !known || where != events {
		t.Errorf("%d kills at once, %q, %t", n, where, known)
	}
	write("low 0\nhigh 0\nmax 7\noom 3\noom_kill 5\noom_group_kill 0\n")
	if n, _, known := watch.Kills(); n != 3 || !known {
		t.Errorf("%d kills, %t; want 3", n, known)
	}
	if n, where, known := (&Group{Path: dir}).OOMKills(); n != 5 || !known || where != events {
		t.Errorf("%d kills of the group, %q, %t; want 5", n, where, known)
	}
	write("oom_kill many\n")
	if _, _, known := watch.Kills(); known {
		t.Error("a broken file counts")
	}
}

func TestFrozen(t *testing.T) {
	t.Parallel()
	write := func(path, text string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	mount := t.TempDir()
	write(filepath.Join(mount, "a/cgroup.events"), "populated 1\nfrozen 1\n")
	write(filepath.Join(mount, "b/cgroup.events"), "populated 1\nfrozen 0\n")
	write(filepath.Join(mount, "unified/c/cgroup.events"), "populated 1\nfrozen 1\n")
	write(filepath.Join(mount, "freezer/d/freezer.state"), "FROZEN\n")
	write(filepath.Join(mount, "freezer/e/freezer.state"), "THAWED\n")
	for groups, want := range map[string]bool{
		"0::/a\n": true, "0::/b\n": false, "0::/none\n": false, "0::/c\n": true,
		"6:freezer:/d\n0::/b\n": true, "6:freezer:/e\n0::/b\n": false, "6:freezer:/none\n": false, "4:memory:/d\n": false, "": false, "x": false,
	} {
		if got := frozen(groups, mount); got != want {
			t.Errorf("%q: %t", groups, got)
		}
	}
	if Frozen(os.Getpid()) {
		t.Error("this process is frozen")
	}
	if Frozen(-1) {
		t.Error("nobody is frozen")
	}
}
