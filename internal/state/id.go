package state

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// IDName is the name of the file with a state directory's id.
const IDName = "id"

var idPattern = lazyregexp.New(`^[0-9a-f]{32}\n$`)

// idPatience bounds the wait for a process that makes the id, which takes milliseconds.
const idPatience = 10 * time.Second

// ID is the id of a state directory: random, and made once, so that what bears it belongs to this directory and to none
// that has, or had, the same path. It is "" where none was made.
func ID(dir string) (string, error) {
	data, err := Read(filepath.Join(dir, IDName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("cannot read the id of the state directory: %w", err)
	case !idPattern.Match(data): // its writer was killed
		return "", nil
	}
	return string(data[:len(data)-1]), nil
}

// MakeID is ID that makes one where there is none. The file is its own lock, so that all processes get the same.
func MakeID(dir string) (id string, err error) {
	if id, err = ID(dir); id != "" || err != nil {
		return id, err
	}
	lock, err := TakeLock(filepath.Join(dir, IDName), idPatience)
	if err != nil {
		return "", fmt.Errorf("cannot make the id of the state directory: %w", err)
	}
	defer lock.Release()
	if id, err = ID(dir); id != "" || err != nil {
		return id, err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	id = hex.EncodeToString(random[:])
	err = lock.file.Truncate(0)
	if err == nil {
		_, err = io.WriteString(io.NewOffsetWriter(lock.file, 0), id+"\n")
	}
	if err == nil {
		err = lock.file.Sync() // what bears the id must not outlive it
	}
	if err != nil {
		return "", fmt.Errorf("cannot make the id of the state directory: %w", err)
	}
	return id, nil
}
