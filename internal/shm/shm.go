// Package shm removes what the processes of a launch have made in /dev/shm and left there when they were killed: memory
// that nobody gives back before the next boot (420 MB for a vLLM). It removes nothing that somebody else may miss.
//
// Who puts a launch away calls it, with what the launch was seen to have. It decides nothing about processes.
package shm

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Leftovers gathers what a tree of processes has made. The zero value has seen nothing. It is safe for concurrent use.
type Leftovers struct {
	mu      sync.Mutex
	objects map[file]string // paths, directly below /dev/shm
}

// Note remembers what the process has mapped by now. A dead process cannot be asked any more.
func (l *Leftovers) Note(pid int) {
	found := made(pid)
	if len(found) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.objects == nil {
		l.objects = map[file]string{}
	}
	for id, path := range found {
		l.objects[id] = path
	}
}

// Paths are the objects that were noted.
func (l *Leftovers) Paths() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Values(l.objects))
}

// Remove unlinks those of the noted objects that can only be the tree's: made since the launch and by this user, still the
// same file under their only name, not named by the configuration (see [Named]), and in use by none of the processes.
func (l *Leftovers) Remove(since time.Time, named []string, processes []int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, path := range l.objects {
		if is, ok := identify(path); !ok || is != id || !madeSince(path, since) || isNamed(named, filepath.Base(path)) {
			delete(l.objects, id)
		}
	}
	for _, pid := range processes {
		if len(l.objects) == 0 {
			return nil
		}
		for _, id := range append(uses(pid, l.objects), opened(pid, l.objects)...) {
			delete(l.objects, id)
		}
	}
	var err error
	for _, path := range l.objects {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// Named picks what may name an object in /dev/shm out of the texts of a configuration: arguments, values of variables,
// paths. It is kept with the launch, and holds nothing else of them. Relative paths refer to the folder from.
func Named(from string, texts []string) []string {
	var named []string
	add := func(name string) {
		if name != "" && !slices.Contains(named, name) {
			named = append(named, name)
		}
	}
	folders := folders{}
	for _, text := range texts {
		// The name ends where the text does or before: "name=/dev/shm/a.gguf:0.5", {"path": "/dev/shm/a"}.
		for _, after := range strings.Split(text, dir+"/")[1:] {
			add(after)
		}
		for _, word := range append(strings.FieldsFunc(text, separates), text) {
			add(folders.behind(from, word))
		}
	}
	return named
}

// separates tells what can stand around a path in an argument.
func separates(r rune) bool { return strings.ContainsRune("=,:;|@\"'()[]{} \t\r\n", r) }

// folders is where folders lead to, through links: most words of a text are in the same few.
type folders map[string]resolved

type resolved struct {
	path string
	err  error
}

func (f folders) resolve(folder string) (string, error) {
	r, known := f[folder]
	if !known {
		r.path, r.err = filepath.EvalSymlinks(folder)
		f[folder] = r
	}
	return r.path, r.err
}

// behind is the name of the object that a path leads to, through links too, or /dev/shm itself; "" when it leads elsewhere.
func (f folders) behind(from, path string) string {
	if path == "" || len(path) > 4096 || strings.ContainsRune(path, 0) {
		return ""
	}
	for range 40 { // as many links as the kernel follows
		if !filepath.IsAbs(path) {
			path = filepath.Join(from, path)
		}
		path = filepath.Clean(path)
		folder, err := f.resolve(filepath.Dir(path))
		if err != nil {
			return ""
		}
		path = filepath.Join(folder, filepath.Base(path))
		target, err := os.Readlink(path) // what it leads to may come later
		switch {
		case err == nil:
			from, path = folder, target
		case path == dir:
			return dir
		case folder == dir:
			return filepath.Base(path)
		default:
			return ""
		}
	}
	return ""
}

// isNamed errs on the side of keeping: "a" is also named by "abc", and whoever puts data into /dev/shm itself may want all of
// it.
func isNamed(named []string, object string) bool {
	return slices.ContainsFunc(named, func(n string) bool { return n == dir || strings.HasPrefix(n, object) })
}
