package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryLeft(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	group := func(path, limit, current, stat string) string {
		t.Helper()
		dir := filepath.Join(mount, path)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"memory.max": limit, "memory.current": current, "memory.stat": stat} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	slice := group("pod", "1000", "700", "anon 300\ninactive_file 100\nactive_file 50")
	free := group("pod/free", "max", "100", "")
	tight := group("pod/tight", "200", "150", "inactive_file 30")
	full := group("pod/full", "200", "250", "")
	for dir, want := range map[string]uint64{slice: 450, free: 450, tight: 80, full: 0} {
		if left, limited := (limits{version2, dir, mount}).left(); !limited || left != want {
			t.Errorf("%s: %d (%v), want %d", dir, left, limited, want)
		}
	}
	if left, limited := (limits{version2, mount, mount}).left(); limited {
		t.Errorf("no limit: %d", left)
	}
}

func TestMemoryLeftOfVersion1(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	pod := filepath.Join(mount, "pod")
	for dir, limit := range map[string]string{mount: "9223372036854771712", pod: "1000"} {
		for name, text := range map[string]string{
			"memory.limit_in_bytes": limit, "memory.usage_in_bytes": "700", "memory.stat": "cache 200\ntotal_inactive_file 100\ntotal_active_file 50",
		} {
			if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left, limited := (limits{version1, pod, mount}).left(); !limited || left != 450 {
		t.Errorf("%d (%v), want 450", left, limited)
	}
	if left, limited := (limits{version1, mount, mount}).left(); limited {
		t.Errorf("no limit: %d", left)
	}
}

func TestMemoryOf(t *testing.T) {
	t.Parallel()
	const unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
	const hybrid = "40 35 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
		"41 35 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	const pod = "40 35 0:30 /kubepods/p/c /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
	for name, tt := range map[string]struct {
		cgroup, mountinfo string
		want              string // the file that counts kills; "" for none
	}{
		"unified":      {"0::/system.slice/ep.service\n", unified, "/sys/fs/cgroup/system.slice/ep.service/memory.events"},
		"hybrid":       {"5:cpu,cpuacct:/y\n4:memory:/x\n0::/\n", hybrid, "/sys/fs/cgroup/memory/x/memory.oom_control"},
		"container":    {"4:memory:/kubepods/p/c\n", pod, "/sys/fs/cgroup/memory/memory.oom_control"},
		"with another": {"4:hugetlb,memory:/x\n", "40 35 0:30 / /cg rw - cgroup cgroup rw,hugetlb,memory\n", "/cg/x/memory.oom_control"},
		"no memory":    {"4:cpu:/x\n", hybrid, ""},
	} {
		m, err := memoryOf(tt.cgroup, tt.mountinfo)
		if (err == nil) != (tt.want != "") || err == nil && filepath.Join(m.dir, m.events) != tt.want {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}
