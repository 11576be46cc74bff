package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
)

// RestartsName is the name of the file of what a replica's manager remembers, in the replica's folder.
const RestartsName = "restarts.json"

// Restarts is the path of what the replica's manager remembers.
func (f Files) Restarts() string { return filepath.Join(f.Dir(), RestartsName) }

// ReadRestarts reads what the replica's manager remembers.
func (f Files) ReadRestarts(into any) error {
	data, err := Read(f.Restarts())
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("cannot read %q: %w", f.Restarts(), err)
	}
	return nil
}

// WriteRestarts keeps what the replica's manager remembers.
func (f Files) WriteRestarts(kept any) error {
	data, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	err = CheckPrivate(f.Dir())
	if errors.Is(err, fs.ErrNotExist) {
		err = f.Create()
	}
	if err != nil {
		return err
	}
	return atomicfile.Replace(f.Restarts(), append(data, '\n'))
}

// ClearRestarts removes what a manager left that was killed while it wrote.
func (f Files) ClearRestarts() error {
	err := atomicfile.Clear(f.Restarts())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
