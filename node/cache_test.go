package node

import (
	"os"
	"path/filepath"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// What lies in the folder is listed, and goes when it is chosen.
func TestCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opt := provisioner.WithCacheDir(dir)
	if items, err := Cache(opt); err != nil || items != nil {
		t.Errorf("an empty cache: %v (%v)", items, err)
	}
	path := filepath.Join(dir, "binaries", "facts.json")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	items, err := Cache(opt)
	if err != nil || len(items) != 1 || items[0].Kind != CacheFacts || items[0].Path != filepath.Dir(path) || items[0].Bytes != 2 || items[0].UsedAt.IsZero() {
		t.Fatalf("%+v (%v)", items, err)
	}
	for _, chosen := range []bool{false, true} {
		removed, err := PruneCache(func(i CacheItem) bool { return chosen && i.Kind == CacheFacts }, opt)
		_, gone := os.Stat(path)
		if err != nil || len(removed) == 1 != chosen || os.IsNotExist(gone) != chosen {
			t.Errorf("chosen %v: removed %v (%v), %v", chosen, removed, err, gone)
		}
	}
}
