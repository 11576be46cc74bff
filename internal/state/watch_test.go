package state

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Where the kernel does not notify, as on NFS, looking from time to time does it.
func TestWatchByPolling(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	dir := filepath.Join(t.TempDir(), "engines") // it comes into being after the watch
	w := &watch{dir: dir, seen: map[string][]byte{}}
	told, over := make(chan Change), make(chan struct{})
	go func() {
		defer close(over)
		w.run(ctx, func(c Change) bool {
			select {
			case told <- c:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	defer func() { cancel(); <-over }()
	next := func() Change {
		t.Helper()
		select {
		case c := <-told:
			return c
		case <-time.After(time.Minute):
			t.Fatal("nothing is told")
			return Change{}
		}
	}
	path := filepath.Join(dir, "pool-r0.json")
	write := func(text string) { // at once, as a handoff is
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"{}", `{"a": 1}`} {
		write(text)
		if c := next(); c.Path != path || string(c.Data) != text || c.Removed || c.Err != nil {
			t.Errorf("%s: %+v", text, c)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if c := next(); c.Path != path || !c.Removed || string(c.Data) != `{"a": 1}` {
		t.Errorf("removed: %+v", c)
	}
}
