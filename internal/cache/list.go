package cache

import (
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

	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Item is something that can be downloaded, built or installed again.
type Item struct {
	Kind    Kind
	Name    string // for people
	Path    string // absolute
	Bytes   int64
	UsedAt  time.Time // about the last start with it
	Partial bool      // it is not complete; the next try goes on with it
	InUse   bool      // a process runs with it or works on it; seen on Linux alone

	note     models.Note // of HubModel
	noteFile string
}

// Kind says what an item is.
type Kind string

// The kinds.
const (
	Model    Kind = "model"     // of an https URL
	HubModel Kind = "hub_model" // in the cache of Hugging Face, which other tools share
	Engine   Kind = "engine"    // built, installed or unpacked
	Facts    Kind = "facts"     // what is known of executables
	Other    Kind = "other"     // whatever else lies in the folder
)

// List is what lies in the cache.
func (c Cache) List() ([]Item, error) {
	dir := c.Dir
	if dir == "" {
		return nil, models.ErrNoCache
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	folders, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the cache: %w", err)
	}
	var items []Item
	for _, f := range folders {
		path := filepath.Join(dir, f.Name())
		switch f.Name() {
		case "binaries":
			items = append(items, measured(Item{Kind: Facts, Name: "facts about executables", Path: path}))
		case "hub":
			items = append(items, hubItems(path)...)
		case "models":
			items = append(items, itemsIn(path, modelItem)...)
		case "engines":
			items = append(items, itemsIn(path, engineItem)...)
		default:
			items = append(items, measured(Item{Kind: Other, Name: f.Name(), Path: path}))
		}
	}
	use := filesInUse()
	for i := range items {
		items[i].InUse = items[i].InUse || slices.ContainsFunc(items[i].paths(), func(path string) bool { return strings.Contains(use, path) })
	}
	return items, nil
}

func itemsIn(dir string, item func(path string) (Item, bool)) []Item {
	var items []Item
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if i, ok := item(filepath.Join(dir, e.Name())); ok {
			items = append(items, i)
		}
	}
	return items
}

var sha256Pattern = lazyregexp.New(`^[0-9a-fA-F]{64}$`)

// modelItem is a model of a URL, in a folder that is named by its checksum.
func modelItem(path string) (Item, bool) {
	if !sha256Pattern.MatchString(filepath.Base(path)) {
		return measured(Item{Kind: Other, Name: filepath.Base(path), Path: path}), true
	}
	item := measured(Item{Kind: Model, Path: path, Partial: true})
	files, _ := os.ReadDir(path)
	for _, f := range files {
		name := strings.TrimSuffix(strings.TrimSuffix(f.Name(), fetch.PartSuffix+".json"), fetch.PartSuffix)
		if lock, ok := strings.CutSuffix(name, ".lock"); ok {
			name = lock
			item.InUse = fetch.Locked(filepath.Join(path, f.Name()))
		}
		item.Name = name
		item.Partial = item.Partial && f.Name() != name
	}
	return item, len(files) > 0
}

// engineItem is an engine with a manifest, which is written when it is complete.
func engineItem(path string) (Item, bool) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return Item{}, false // a lock
	}
	item := measured(Item{Kind: Engine, Name: filepath.Base(path), Path: path, Partial: true})
	e := Entry{path}
	if m, ok := e.Manifest(); ok {
		item.Name, item.Partial = m.What, false
		if info, err := os.Stat(e.Path(manifestName)); err == nil {
			item.UsedAt = info.ModTime()
		}
	}
	item.InUse = fetch.Locked(e.Lock())
	return item, true
}

func hubItems(dir string) []Item {
	if checkOwn(dir) != nil {
		return nil // a note says what to remove
	}
	return itemsIn(dir, func(path string) (Item, bool) {
		var n models.Note
		data, err := state.Read(path)
		if err != nil || json.Unmarshal(data, &n) != nil || len(n.Links) == 0 {
			return Item{}, false
		}
		item := Item{Kind: HubModel, Name: n.Name, note: n, noteFile: path}
		if info, err := os.Stat(path); err == nil {
			item.UsedAt = info.ModTime()
		}
		for link, blob := range n.Links {
			if item.Path == "" || link < item.Path {
				item.Path = link
			}
			if info, err := os.Stat(blob); err == nil {
				item.Bytes += info.Size()
			}
			if info, err := os.Stat(blob + fetch.PartSuffix); err == nil {
				item.Bytes += blocks(info)
			}
			if _, err := os.Stat(link); err != nil {
				item.Partial = true
			}
		}
		item.InUse = slices.ContainsFunc(n.Locks, fetch.Locked)
		return item, true
	})
}

// paths are those that a process which uses the item has to do with.
func (i Item) paths() []string {
	paths := []string{i.Path}
	for link, blob := range i.note.Links {
		paths = append(paths, link, blob)
	}
	return paths
}

// measured adds the size of what is at the item's path, and when it was changed.
func measured(item Item) Item {
	if info, err := os.Stat(item.Path); err == nil {
		item.UsedAt = info.ModTime()
	}
	_ = filepath.WalkDir(item.Path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it has just been removed
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			item.Bytes += blocks(info)
		}
		return nil
	})
	return item
}

// blocks is what a file takes of the disk: a download in parts has holes.
func blocks(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return min(info.Size(), st.Blocks*512)
	}
	return info.Size()
}

// filesInUse is what the processes of this user run and map, as one text to look for paths in.
func filesInUse() string {
	var text strings.Builder
	processes, _ := procfs.Processes()
	for _, p := range processes {
		for _, name := range []string{"cmdline", "maps"} {
			if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID, name)); err == nil {
				text.Write(data)
				text.WriteByte('\n')
			}
		}
	}
	return text.String()
}
