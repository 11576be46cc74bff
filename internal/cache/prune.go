package cache

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Prune removes the items that choose is true for, and returns them. Those in use stay, and what choose says of them
// does not matter.
func (c Cache) Prune(choose func(Item) bool) ([]Item, error) {
	items, err := c.List()
	var removed []Item
	for _, item := range items {
		if item.InUse || !choose(item) {
			continue
		}
		failed := item.remove()
		if errors.Is(failed, state.ErrHeld) {
			continue // a process has begun to work on it
		}
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("cannot remove %q: %w", item.Path, failed))
			continue
		}
		removed = append(removed, item)
	}
	if dir, unknown := c.Folder("engines"); unknown == nil {
		err = errors.Join(err, tidyEngines(dir))
	}
	return removed, err
}

// tidyEngines removes what stands beside engines that are gone: their locks, and the notes that lead to them.
func tidyEngines(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil //nolint:nilerr // List has told
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		e := Entry{strings.TrimSuffix(path, ".lock")}
		switch filepath.Ext(path) {
		case ".lock":
			if access.Exists(e.Dir) {
				continue
			}
			lock, locked := state.TryLock(path)
			if locked != nil {
				continue // it is just being made
			}
			if !access.Exists(e.Dir) {
				err = errors.Join(err, atomicfile.Remove(path))
			}
			lock.Release()
		case refSuffix:
			var r remembered
			data, unread := state.Read(path)
			if unread == nil && json.Unmarshal(data, &r) == nil && !access.Exists(filepath.Join(dir, filepath.Base(r.Entry))) {
				err = errors.Join(err, atomicfile.Remove(path)) // should the engine be made just now, it is found again
			}
		}
	}
	return err
}

// remove returns errLocked where a process is at work on the item. Whoever waits for a lock looks whether it is still the
// file of that name when it has it, so a lock can be removed by who holds it; it goes last.
func (i Item) remove() error {
	switch i.Kind {
	case Engine:
		return i.removeEngine()
	case Model:
		return i.removeModel()
	case HubModel:
		return i.removeHubModel()
	}
	return os.RemoveAll(i.Path)
}

func (i Item) removeEngine() error {
	e := Entry{i.Path}
	lock, err := state.TryLock(e.Lock())
	if err != nil {
		return err
	}
	defer lock.Release()
	// First what makes it count: half an engine must not be taken for one.
	if err := atomicfile.Remove(e.Path(manifestName)); err != nil {
		return err
	}
	if err := os.RemoveAll(i.Path); err != nil {
		return err
	}
	return atomicfile.Remove(e.Lock())
}

func (i Item) removeModel() error {
	lock := filepath.Join(i.Path, i.Name+".lock")
	release, ok, err := fetch.TryLock(lock)
	if err != nil || !ok {
		return cmp.Or(err, state.ErrHeld)
	}
	defer release()
	files, err := os.ReadDir(i.Path)
	for _, f := range files {
		if path := filepath.Join(i.Path, f.Name()); path != lock {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	if err = errors.Join(err, atomicfile.Remove(lock)); err != nil {
		return err
	}
	if err := atomicfile.Remove(i.Path); !errors.Is(err, syscall.ENOTEMPTY) { // somebody begins anew
		return err
	}
	return nil
}

// removeHubModel leaves the locks, as the other tools do that share the cache.
func (i Item) removeHubModel() error {
	for _, path := range i.note.Locks {
		if !access.Exists(path) {
			continue // nobody has ever downloaded it
		}
		release, ok, err := fetch.TryLock(path)
		if err != nil || !ok {
			return cmp.Or(err, state.ErrHeld)
		}
		defer release()
	}
	for link, blob := range i.note.Links {
		if err := atomicfile.Remove(link); err != nil {
			return err
		}
		for _, path := range []string{blob + fetch.PartSuffix, blob + fetch.PartSuffix + ".json", blob} {
			if path == blob && linked(blob) {
				continue // another commit has it
			}
			if err := atomicfile.Remove(path); err != nil {
				return err
			}
		}
	}
	for link, blob := range i.note.Links {
		if repo := filepath.Dir(filepath.Dir(blob)); !othersDownload(repo, i.note.Locks) {
			removeEmpty(filepath.Dir(link), "snapshots")
			forgetRefs(repo)
		}
	}
	return atomicfile.Remove(i.noteFile)
}

// othersDownload reports whether a tool downloads into a repository in the hub's cache, by locks beside our own. It has
// made the folder for its commit already, and needs it when the content is there: huggingface_hub fails without.
func othersDownload(repo string, ours []string) bool {
	dir := filepath.Join(filepath.Dir(repo), ".locks", filepath.Base(repo))
	locks, _ := os.ReadDir(dir)
	return slices.ContainsFunc(locks, func(l fs.DirEntry) bool {
		path := filepath.Join(dir, l.Name())
		return !slices.Contains(ours, path) && fetch.Locked(path)
	})
}

// removeEmpty removes folders without files, from dir up to the one of that name.
func removeEmpty(dir, above string) {
	for ; filepath.Base(dir) != above && os.Remove(dir) == nil; dir = filepath.Dir(dir) {
	}
}

// forgetRefs removes the branches and tags of a repository in the hub's cache that stand for a commit which is gone, and
// the repository when nothing is left of it: huggingface_hub calls a cache corrupted that names what it does not have.
func forgetRefs(repo string) {
	_ = filepath.WalkDir(filepath.Join(repo, "refs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // others share the folder
		}
		data, err := os.ReadFile(path)
		commit := strings.TrimSpace(string(data))
		if err == nil && models.IsCommit(commit) && !access.Exists(filepath.Join(repo, "snapshots", commit)) {
			_ = os.Remove(path)
			removeEmpty(filepath.Dir(path), "refs")
		}
		return nil
	})
	for _, dir := range []string{"refs", "blobs", "snapshots"} { // which goes last: a repository without it counts as corrupted
		if atomicfile.Remove(filepath.Join(repo, dir)) != nil {
			return
		}
	}
	_ = os.RemoveAll(filepath.Join(repo, ".no_exist")) // what the hub does not have, for the commits that are gone
	_ = os.Remove(repo)
}

// linked reports whether a snapshot still shows a blob.
func linked(blob string) bool {
	found := false
	_ = filepath.WalkDir(filepath.Join(filepath.Dir(filepath.Dir(blob)), "snapshots"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			found = found || err == nil && filepath.Base(target) == filepath.Base(blob)
		}
		return nil
	})
	return found
}
