package cgroup

import (
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
		if left, limited := memoryLeft(dir, mount); !limited || left != want {
			t.Errorf("%s: %d (%v), want %d", dir, left, limited, want)
		}
	}
	if left, limited := memoryLeft(mount, mount); limited {
		t.Errorf("no limit: %d", left)
	}
}
