package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Change says what has become of a file of a folder.
type Change struct {
	Path    string
	Data    []byte // what it holds; with Removed, what was told last
	Removed bool
	Err     error // it is there but cannot be read
}

// pollInterval is how often a watcher looks for itself, for file systems that do not notify (NFS) and for a folder
// that is not there yet.
const pollInterval = 500 * time.Millisecond

// Watch tells every .json file of a folder: first those that are there, then each change. The folder need not exist yet. It
// returns when ctx is done, or tell returns false. What changes faster than it is told may be told once, as it is in the end. A
// handoff with a lease is there as long as that holds, and a renewal is no change.
func Watch(ctx context.Context, dir string) (func(tell func(Change) bool), error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot watch %q: %w", dir, err)
	}
	w := &watch{dir: abs, seen: map[string][]byte{}, leases: leases{}}
	// Without notification (too many watches on this machine, say) polling alone does it.
	w.notify, _ = fsnotify.NewWatcher()
	return func(tell func(Change) bool) { w.run(ctx, tell) }, nil
}

type watch struct {
	dir      string
	notify   *fsnotify.Watcher // nil: polling alone
	watching bool
	seen     map[string][]byte // content by path
	leases   leases
}

func (w *watch) run(ctx context.Context, tell func(Change) bool) {
	var changed <-chan fsnotify.Event
	var missed <-chan error
	if w.notify != nil {
		defer func() { _ = w.notify.Close() }()
		changed, missed = w.notify.Events, w.notify.Errors
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for w.scan(tell) {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case _, open := <-missed: // an overflow: the scan finds what it was
			if !open {
				missed = nil
			}
		case <-poll.C:
		}
	}
}

// scan tells of what is different from the last time; it returns false when nobody listens any more.
func (w *watch) scan(tell func(Change) bool) bool {
	if w.notify != nil && !w.watching {
		w.watching = w.notify.Add(w.dir) == nil // before the folder is read, so that nothing falls in between
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.watching = false // there is no folder, or it was removed: a new one needs a new watch
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // nobody can tell what is there, so what is known stands, as long as its lease does
		return w.expire(tell)
	}
	var paths []string
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".json") {
			paths = append(paths, filepath.Join(w.dir, entry.Name()))
		}
	}
	maps.DeleteFunc(w.leases, func(path string, _ seenLease) bool { return !slices.Contains(paths, path) })
	for path, data := range w.seen {
		if !slices.Contains(paths, path) {
			delete(w.seen, path)
			if !tell(Change{Path: path, Data: data, Removed: true}) {
				return false
			}
		}
	}
	for _, path := range paths {
		data, err := Read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since; the next scan tells
		}
		before, known := w.seen[path]
		if err == nil && !w.leases.holds(path, data, time.Now()) {
			delete(w.seen, path)
			if known && !tell(Change{Path: path, Data: before, Removed: true}) {
				return false
			}
			continue
		}
		same := known && bytes.Equal(unleased(before), unleased(data))
		w.seen[path] = data
		if same {
			continue
		}
		if !tell(Change{Path: path, Data: data, Err: err}) {
			return false
		}
	}
	return true
}

// expire tells of what was seen and whose lease is over.
func (w *watch) expire(tell func(Change) bool) bool {
	for path, data := range w.seen {
		if w.leases.holds(path, data, time.Now()) {
			continue
		}
		delete(w.seen, path)
		if !tell(Change{Path: path, Data: data, Removed: true}) {
			return false
		}
	}
	return true
}
