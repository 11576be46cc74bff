package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/fetch"
)

// watcher is told how it goes, and does nothing about it.
var watcher = Watcher{Waiting: func(string) {}, Note: func(string) {}}

// Entries whose executable somebody has removed, and those that were never completed, are made again.
func TestDamagedEntry(t *testing.T) {
	t.Parallel()
	c := Cache{t.TempDir()}
	e, err := c.Entry("source", strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	times := 0
	get := func() (string, error) {
		return e.Get(t.Context(), watcher, func(*os.File) (Manifest, error) {
			times++
			return Manifest{Executable: "bin/engine"}, errors.Join(os.MkdirAll(e.Path("bin"), 0o700), os.WriteFile(e.Path("bin", "engine"), nil, 0o700))
		})
	}
	for range 2 {
		if path, err := get(); err != nil || path != e.Path("bin/engine") || times != 1 {
			t.Fatalf("%q, %v, made %d times", path, err, times)
		}
	}
	for i, damage := range []func() error{
		func() error { return os.Remove(e.Path("bin/engine")) },
		func() error { return os.WriteFile(e.Path(manifestName), []byte("{"), 0o600) },
		func() error {
			return os.WriteFile(e.Path(manifestName), []byte(`{"executable":"../../../bin/sh"}`), 0o600)
		},
		func() error { return os.Remove(e.Path(manifestName)) },
		func() error { return os.RemoveAll(e.Dir) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if path, err := get(); err != nil || path == "" || times != i+2 {
			t.Errorf("%d: %q, %v, made %d times", i, path, err, times)
		}
	}
	blocked := Entry{filepath.Join(t.TempDir(), "x")}
	if err := os.Mkdir(blocked.Lock(), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = blocked.Get(t.Context(), watcher, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "cannot use the cache: open ") || !strings.Contains(err.Error(), "x.lock: is a directory; set XDG_CACHE_HOME") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_ = os.Remove(e.Path(manifestName))
	_, err = e.Get(ctx, watcher, func(*os.File) (Manifest, error) { cancel(); return Manifest{Executable: "bin/engine"}, nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(e.Path(manifestName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a canceled entry counts: %v", err)
	}
}

// TestPruneAmongMakers removes engines and models while others make them. Nobody ends up with the lock on a file that is
// gone, beside whoever made a new one: two never make the same at once.
func TestPruneAmongMakers(t *testing.T) {
	t.Parallel()
	c := Cache{t.TempDir()}
	e, err := c.Entry("source", strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("GGUF")
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(content) }))
	t.Cleanup(server.Close)
	models, err := c.Folder("models")
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(models, sum, "chat.gguf")
	var makers atomic.Int32
	var makes atomic.Int64
	engine := func() error {
		_, err := e.Get(t.Context(), watcher, func(*os.File) (Manifest, error) {
			defer makers.Add(-1)
			if n := makers.Add(1); n > 1 {
				t.Errorf("%d at once", n)
			}
			makes.Add(1)
			return Manifest{Executable: "engine"}, os.WriteFile(e.Path("engine"), nil, 0o700)
		})
		return err
	}
	download := func() error {
		return fetch.Download(t.Context(), fetch.File{URL: server.URL + "/chat.gguf", Path: model, Digest: fetch.SHA256(sum)})
	}
	over := make(chan struct{})
	var all sync.WaitGroup
	for _, work := range []func() error{engine, engine, engine, download, download} {
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := work(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for pruned, deadline := 0, time.Now().Add(time.Minute); pruned < 20 && time.Now().Before(deadline); {
		removed, err := c.Prune(func(Item) bool { return true })
		if err != nil {
			t.Error(err)
			break
		}
		pruned += len(removed)
	}
	close(over)
	all.Wait()
	t.Logf("made %d engines", makes.Load())
}
