// Package runs knows in which state directories a pools file has run, so that a command that is given the file finds them from
// any folder.
//
// It owns the user's index: one small file for each pair of a pools file and a state directory, in
// $XDG_STATE_HOME/engine-provisioner/runs (by default below ~/.local/state). The index is a hint and no more: a state
// directory counts when it says itself that the file has run there. The command writes it when a run begins; the library
// never does, and nothing here looks at engines.
package runs

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// entry is one file of the index.
type entry struct {
	File     string `json:"file"`
	StateDir string `json:"state_dir"`
}

// forgotten is for how long an entry stays whose state directory is not there: its disk may be mounted again.
const forgotten = 30 * 24 * time.Hour

// Index is the folder of this user's index; "" where there is none to be had, because no home is known.
func Index() string {
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) { // which the specification wants to be taken as unset
		home, err := os.UserHomeDir()
		if err != nil || !filepath.IsAbs(home) {
			return ""
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "engine-provisioner", "runs")
}

// Note writes down that a pools file runs with a state directory: in the directory, whose manager the caller is, and in the
// index. Nothing is written into a home that belongs to another user, as HOME is under some kinds of sudo.
func Note(file, dir string) error {
	file, dir, err := absolute(file, dir)
	if err != nil {
		return err
	}
	if err := state.AddSource(dir, file); err != nil {
		return err
	}
	index := Index()
	if index == "" || !ours(index) {
		return nil
	}
	if err := os.MkdirAll(index, 0o700); err != nil {
		return fmt.Errorf("cannot keep where %q runs: %w", file, err)
	}
	prune(index, time.Now())
	for _, name := range names(file) {
		if err := write(filepath.Join(index, stem(name)+"-"+stem(dir)+".json"), entry{file, dir}); err != nil {
			return fmt.Errorf("cannot keep where %q runs: %w", file, err)
		}
	}
	return nil
}

// write makes an entry the latest one.
func write(path string, e entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if before, err := state.Read(path); err == nil && string(before) == string(data) {
		return os.Chtimes(path, time.Time{}, time.Now())
	}
	return atomicfile.Write(path, data)
}

func absolute(file, dir string) (absFile, absDir string, err error) {
	if absFile, err = filepath.Abs(file); err == nil {
		absDir, err = state.Dir(dir)
	}
	return absFile, absDir, err
}

// same tells whether two names are one file: by the text, or by what lies there.
func same(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// names are those by which a file may be given from somewhere else: its own in the real folder, and that of what it is a link to.
func names(file string) []string {
	all := []string{file}
	if folder, err := filepath.EvalSymlinks(filepath.Dir(file)); err == nil {
		all = append(all, filepath.Join(folder, filepath.Base(file)))
	}
	if target, err := filepath.EvalSymlinks(file); err == nil {
		all = append(all, target)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// stem stands for a path in the name of an entry.
func stem(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:16])
}

// indexed are the state directories that the index has for a file, the latest first.
func indexed(file string) []string {
	index := Index()
	if index == "" {
		return nil
	}
	type found struct {
		dir string
		at  time.Time
	}
	var all []found
	files, _ := os.ReadDir(index) // none, and none that may be read, is the same: the index is a hint
	for _, name := range names(file) {
		for _, f := range files {
			if !strings.HasPrefix(f.Name(), stem(name)+"-") {
				continue
			}
			if e, at, ok := read(filepath.Join(index, f.Name())); ok {
				all = append(all, found{e.StateDir, at})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b found) int { return cmp.Or(b.at.Compare(a.at), strings.Compare(a.dir, b.dir)) })
	var dirs []string
	for _, f := range all {
		if !slices.Contains(dirs, f.dir) {
			dirs = append(dirs, f.dir)
		}
	}
	return dirs
}

func read(path string) (e entry, at time.Time, ok bool) {
	info, err := os.Lstat(path)
	if err != nil {
		return entry{}, time.Time{}, false
	}
	data, err := state.Read(path)
	if err != nil || json.Unmarshal(data, &e) != nil || !filepath.IsAbs(e.StateDir) {
		return entry{}, time.Time{}, false
	}
	return e, info.ModTime(), true
}

// entryName is how names of entries are made; what has another name here is not ours.
var entryName = lazyregexp.New(`^[0-9a-f]{32}-[0-9a-f]{32}\.json$`)

// prune removes entries whose state directory has not been there for long, and what a killed writer has left.
func prune(index string, now time.Time) {
	files, _ := os.ReadDir(index) // what cannot be listed is not removed
	for _, f := range files {
		path := filepath.Join(index, f.Name())
		info, err := f.Info()
		if err != nil || !info.Mode().IsRegular() || now.Sub(info.ModTime()) < forgotten {
			continue
		}
		name, torn := atomicfile.Torn(f.Name())
		if !entryName.MatchString(name) {
			continue
		}
		e, _, ok := read(path)
		if _, err := os.Lstat(e.StateDir); torn || ok && errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(path) // the next run tries again
		}
	}
}

// ours tells whether the nearest folder that is there belongs to this user.
func ours(path string) bool {
	info, err := os.Stat(access.Existing(path))
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
