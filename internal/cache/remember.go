package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// remembered is what a configuration was last made into. Without it, the next start would have to ask for what it stands.
type remembered struct {
	Entry string `json:"entry"`
	Of    string `json:"of,omitempty"` // what the configuration stood for, such as a commit
}

const refSuffix = ".ref"

// Last is the entry that a configuration was made into last, and of what. config is a hash.
func (c Cache) Last(kind, config string) (e Entry, of string, ok bool) {
	note, err := c.Entry(kind, config)
	if err != nil {
		return Entry{}, "", false
	}
	var r remembered
	data, err := state.Read(note.Dir + refSuffix)
	if err != nil || json.Unmarshal(data, &r) != nil || r.Entry != filepath.Base(r.Entry) {
		return Entry{}, "", false
	}
	return Entry{filepath.Join(filepath.Dir(note.Dir), r.Entry)}, r.Of, true
}

// Remember notes what a configuration was made into; without the note it is found out again.
func (c Cache) Remember(kind, config string, e Entry, of string) {
	note, err := c.Entry(kind, config)
	if err != nil {
		return
	}
	if data, err := json.Marshal(remembered{filepath.Base(e.Dir), of}); err == nil {
		_ = atomicfile.Write(note.Dir+refSuffix, data)
	}
}

// Hash stands for texts and numbers, and for what encodes to JSON.
func Hash(parts ...any) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(parts)
	return hex.EncodeToString(h.Sum(nil))
}
