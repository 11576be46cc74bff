package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if id, err := ID(dir); id != "" || err != nil {
		t.Errorf("%q (%v) before one was made", id, err)
	}
	made := make([]string, 20)
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			var err error
			if made[i], err = MakeID(dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	read, err := ID(dir)
	if err != nil || len(read) != 32 {
		t.Errorf("%q (%v)", read, err)
	}
	for _, id := range made {
		if id != read {
			t.Errorf("two ids: %q and %q", id, read)
		}
	}
	if other, err := MakeID(t.TempDir()); err != nil || other == read {
		t.Errorf("the id of another directory: %q (%v)", other, err)
	}
}

// A process that is killed while it makes the id leaves an empty file, or a part.
func TestIDTorn(t *testing.T) {
	t.Parallel()
	for _, torn := range []string{"", "0123", strings.Repeat("a", 32), strings.Repeat("a", 100) + "\n"} {
		dir := t.TempDir()
		path := filepath.Join(dir, IDName)
		if err := os.WriteFile(path, []byte(torn), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := ID(dir); id != "" || err != nil {
			t.Errorf("%q: read as %q (%v)", torn, id, err)
		}
		id, err := MakeID(dir)
		if again, _ := ID(dir); err != nil || len(id) != 32 || again != id || id == strings.Repeat("a", 32) {
			t.Errorf("%q: %q, then %q (%v)", torn, id, again, err)
		}
	}
}

func TestIDForeign(t *testing.T) {
	t.Parallel()
	dir, precious := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	if err := errors.Join(os.WriteFile(precious, nil, 0o600), os.Symlink(precious, filepath.Join(dir, IDName))); err != nil {
		t.Fatal(err)
	}
	if id, err := MakeID(dir); id != "" || err == nil {
		t.Errorf("a link is followed: %q", id)
	}
	if data, err := os.ReadFile(precious); err != nil || len(data) > 0 {
		t.Errorf("it was written: %q (%v)", data, err)
	}
}
