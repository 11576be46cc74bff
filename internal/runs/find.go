package runs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Holding is what a state directory holds.
type Holding int

// What it can be.
const (
	Nothing Holding = iota // nothing was ever launched: a start that failed before
	Ended                  // what has run
	Running                // a manager, or an engine
)

// Place is the state directory of the run of a pools file that names none itself.
type Place struct {
	Dir   string
	Sure  bool // it says itself that the file has run there
	Usual bool // it is the one of this folder
}

// Locate finds the state directory of a pools file: .runtime in this folder, or the one that a run was started with elsewhere. Of
// several, it is the one that runs, or has run, as holds tells. An ErrSeveral is the caller's to decide; any other error says
// where it was looked.
func Locate(file string, holds func(dir string) Holding) (Place, error) {
	sure, err := find(file, "")
	if err != nil {
		return Place{}, fmt.Errorf("cannot tell where %q runs: %w; name the directory with --state-dir", file, err)
	}
	usual, err := state.Dir("")
	if err != nil {
		return Place{}, err
	}
	dirs, other := sure, latest(file, usual)
	if !slices.Contains(sure, usual) && (other == "" || liesHere(file)) { // replicas of these names there may be the file's
		dirs = append(slices.Clone(sure), usual)
	}
	if len(dirs) == 0 {
		return Place{}, Nowhere(file, fmt.Sprintf("%q is of %q", usual, other))
	}
	best, chosen := Nothing, dirs[0]
	var alive []string
	for _, dir := range dirs {
		now := holds(dir)
		if now == Running {
			alive = append(alive, dir)
		}
		if now > best {
			best, chosen = now, dir
		}
	}
	if len(alive) > 1 && chosen != usual {
		return Place{}, fmt.Errorf("%q %w; name one with --state-dir: %s", file, ErrSeveral, strings.Join(alive, ", "))
	}
	return Place{Dir: chosen, Sure: slices.Contains(sure, chosen), Usual: chosen == usual}, nil
}

// ErrSeveral says that a pools file runs more than once, and in this folder not.
var ErrSeveral = errors.New("runs with several state directories")

// Nowhere says that no state directory of a file was found, and where it was looked for: here is what there is in this folder.
func Nowhere(file, here string) error {
	index := ", and this user has no home that could tell of other places"
	if folder := Index(); folder != "" {
		index = fmt.Sprintf(", and %q knows of no other place", folder)
	}
	return fmt.Errorf("no state directory of %q was found: %s%s; if there is one, name its directory with --state-dir", file, here, index)
}

// find returns the state directories, as absolute paths, that say that the pools file has run there: usual, if it does, and then
// those of the index, the latest first.
func find(file, usual string) ([]string, error) {
	file, usual, err := absolute(file, usual)
	if err != nil {
		return nil, err
	}
	var found []string
	var failed error
	for _, dir := range append([]string{usual}, indexed(file)...) {
		if slices.Contains(found, dir) {
			continue
		}
		files, err := state.Sources(dir)
		if err != nil {
			failed = errors.Join(failed, err)
		}
		if slices.ContainsFunc(files, func(f string) bool { return same(f, file) }) {
			found = append(found, dir)
		}
	}
	if len(found) > 0 {
		failed = nil // what the others would say does not matter
	}
	return found, failed
}

// latest returns the pools file of the latest run of a state directory where none of its runs was of file, and the one that it
// was of is still there; else "".
func latest(file, dir string) string {
	file, dir, err := absolute(file, dir)
	if err != nil {
		return ""
	}
	files, err := state.Sources(dir)
	if err != nil || len(files) == 0 || !access.Exists(files[0]) || slices.ContainsFunc(files, func(f string) bool { return same(f, file) }) {
		return ""
	}
	return files[0]
}

// liesHere tells whether a file is in this folder.
func liesHere(file string) bool {
	folder, err := os.Stat(filepath.Dir(file))
	here, failed := os.Stat(".")
	return err == nil && failed == nil && os.SameFile(folder, here)
}
