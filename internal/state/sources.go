package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
)

const (
	sourcesName = "files.json"
	maxSources  = 16 // the file must not grow with names that are made anew for each run
)

// sources is what the file of a state directory's pools files holds.
type sources struct {
	Files []string `json:"files"`
}

// Sources are the pools files of which the state directory has had runs, the latest first, as absolute paths. There are none
// where engines were started from Go, or by a version that did not tell.
func Sources(dir string) ([]string, error) {
	data, err := Read(filepath.Join(dir, sourcesName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var s sources
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read which files have run in %q: %w", dir, err)
	}
	return s.Files, nil
}

// AddSource makes file the latest of the pools files of the state directory. Its manager alone calls it.
func AddSource(dir, file string) error {
	before, _ := Sources(dir) // one that cannot be read is written anew
	if len(before) > 0 && before[0] == file {
		return nil
	}
	files := append([]string{file}, slices.DeleteFunc(before, func(f string) bool { return f == file })...)
	data, err := json.MarshalIndent(sources{files[:min(len(files), maxSources)]}, "", "  ")
	if err == nil {
		err = atomicfile.Write(filepath.Join(dir, sourcesName), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot keep in %q which file runs there: %w", dir, err)
	}
	return nil
}
