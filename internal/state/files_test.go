package state

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func write(t *testing.T, path string) {
	t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// A folder's name says nothing: what counts is what a replica has left in it.
func TestList(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "[state] *")
	recorded, locked := In(dir, "pool-r1"), In(dir, "pool-r0")
	for _, list := range []func(string) ([]string, error){
		func(dir string) ([]string, error) { return List(dir, RecordName) }, Unrecorded,
	} {
		if stems, err := list(dir); len(stems) > 0 || err != nil {
			t.Errorf("no directory: %q, %v", stems, err)
		}
	}
	write(t, recorded.Record())
	write(t, locked.LockPath())
	write(t, In(dir, "gone-r0").Handoff())
	write(t, filepath.Join(dir, "pool-r2", "logs", "1.log"))
	write(t, filepath.Join(dir, "events.jsonl"))
	if stems, err := List(dir, RecordName); !slices.Equal(stems, []string{"pool-r1"}) || err != nil {
		t.Errorf("records of %q, %v", stems, err)
	}
	if stems, err := Unrecorded(dir); !slices.Equal(stems, []string{"pool-r0", "gone-r0"}) || err != nil {
		t.Errorf("left by %q, %v", stems, err)
	}
	if stems, err := List(filepath.Join(dir, "events.jsonl"), RecordName); err == nil {
		t.Errorf("a file as state directory: %q", stems)
	}
}

func TestPruneLogs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		keep   int
		failed int64
		want   []int64
	}{{2, 0, []int64{4, 5}}, {2, 1, []int64{1, 5}}, {1, 1, []int64{5}}, {9, 0, []int64{1, 2, 3, 4, 5}}} {
		f := In(t.TempDir(), "pool-r0")
		for n := range int64(5) {
			write(t, f.Log(n+1))
		}
		write(t, filepath.Join(f.Logs(), "notes.log")) // somebody's own
		err := f.PruneLogs(tt.keep, tt.failed)
		if left, _ := f.LogNumbers(); err != nil || !slices.Equal(left, tt.want) {
			t.Errorf("keep %d, failed %d: %v, %v", tt.keep, tt.failed, left, err)
		}
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.lock")
	if Locked(path) {
		t.Error("a lock without a file is held")
	}
	first, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryLock(path); !errors.Is(err, ErrHeld) || !Locked(path) {
		t.Errorf("taken twice: %v", err)
	}
	if !first.At(path) {
		t.Error("not at its own file")
	}
	if err := os.Remove(path); err != nil || first.At(path) {
		t.Errorf("still at a file that is gone: %v", err)
	}
	second, err := TryLock(path) // another file by now
	if err != nil || !second.At(path) || first.At(path) {
		t.Errorf("the new file: %v", err)
	}
	second.Release()
	first.Release()
	if Locked(path) {
		t.Error("held after it was released")
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"link":   func(path string) error { return os.Symlink("/etc/hostname", path) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"large":  func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if name == "large" {
			if err := os.Truncate(path, 1<<20+1); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Read(path); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}
