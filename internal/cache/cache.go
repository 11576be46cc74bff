// Package cache owns the folder of what can be downloaded, built or installed again: engines, each in an entry of its own
// that one program makes while others wait, and the notes that lead to them. It lists what is there, also of models and of
// facts that others keep there, and removes what is not in use.
//
// Whoever brings engines to this node, or tidies up, calls it. It builds and downloads nothing by itself, never removes what
// a process runs or works on, and uses no folder in which another user could put an executable.
package cache

import (
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/internal/models"
)

// Cache is the folder; Dir is "" where there is none, as for a system service, which has no HOME.
type Cache struct{ Dir string }

// Folder is the absolute path of a folder in it.
func (c Cache) Folder(name string) (string, error) {
	if c.Dir == "" {
		return "", models.ErrNoCache
	}
	return filepath.Abs(filepath.Join(c.Dir, name))
}

// Entry is the one of a kind ("source", "package", "download") for a key, which stands for everything that decides what
// is in it.
func (c Cache) Entry(kind, key string) (Entry, error) {
	dir, err := c.Folder("engines")
	if err == nil {
		err = checkOwn(dir)
	}
	// Short, since the first line of a script holds the path, and old kernels read 127 bytes of that.
	return Entry{filepath.Join(dir, kind+"-"+key[:16])}, err
}
