package models

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
)

// Note says which files of the hub's cache, which other tools share, were brought there by this package. Notes lie in the
// folder "hub" of [Finder.Cache].
type Note struct {
	Name  string            `json:"name"`
	Links map[string]string `json:"links"` // from the path in a snapshot to the blob
	Locks []string          `json:"locks"`
	// Beside are files of the repository that are of use beside the model, and were left there; see [Companion].
	Beside []string `json:"beside,omitempty"`
}

// noteFile is where the note of a model is.
func (f Finder) noteFile(model string) string {
	key := sha256.Sum256([]byte(model))
	return filepath.Join(f.Cache, "hub", hex.EncodeToString(key[:8])+".json")
}

// readNote is the note of a model; the zero value where there is none.
func (f Finder) readNote(model string) (n Note) {
	if f.Cache == "" {
		return n
	}
	if data, err := os.ReadFile(f.noteFile(model)); err == nil {
		_ = json.Unmarshal(data, &n)
	}
	return n
}

// keepNote keeps or renews a note. It is for people who tidy up, and no more: what fails is left out.
func (f Finder) keepNote(model string, n *Note) {
	if f.Cache == "" {
		return
	}
	file := f.noteFile(model)
	if n == nil {
		now := time.Now()
		_ = os.Chtimes(file, now, now)
		return
	}
	if data, err := json.Marshal(n); err == nil && os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		_ = atomicfile.Write(file, data)
	}
}
