package models

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/fetch"
)

// folder is where the cache keeps a repository.
func (h hub) folder(repo string) string {
	return filepath.Join(h.cache, "models--"+strings.ReplaceAll(repo, "/", "--"))
}

// commit is the one that the cache knows for a revision, or "".
func (h hub) commit(ref hubRef) string {
	if commitPattern.MatchString(ref.revision) {
		return ref.revision
	}
	data, err := os.ReadFile(h.refFile(ref))
	if commit := strings.TrimSpace(string(data)); err == nil && commitPattern.MatchString(commit) {
		return commit
	}
	return ""
}

// refFile says which commit a branch or tag is.
func (h hub) refFile(ref hubRef) string {
	return filepath.Join(h.folder(ref.repo), "refs", filepath.FromSlash(ref.revision))
}

// cached is the path of the model in the cache, or "", and what else of its repository is there.
func (h hub) cached(ref hubRef, first bool) (model string, names []string) {
	commit := h.commit(ref)
	if commit == "" {
		return "", nil
	}
	snapshot := filepath.Join(h.folder(ref.repo), "snapshots", commit)
	_ = filepath.WalkDir(snapshot, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what cannot be read is not there
		}
		if regular(path) {
			name, _ := filepath.Rel(snapshot, path)
			names = append(names, filepath.ToSlash(name))
		}
		return nil
	})
	if chosen := ref.choose(names, first); chosen != nil {
		return filepath.Join(snapshot, filepath.FromSlash(chosen[0])), names
	}
	return "", nil
}

// regular reports whether there is a file. A link may point to nowhere.
func regular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// stage says what is to be downloaded to where, in the layout of huggingface_hub: content under its digest in blobs, and
// links to it, by commit and name, in snapshots.
func (h hub) stage(ref hubRef, l hubListing, chosen []string) Model {
	folder := h.folder(ref.repo)
	snapshot := filepath.Join(folder, "snapshots", l.Commit)
	m := Model{Path: filepath.Join(snapshot, filepath.FromSlash(chosen[0]))}
	m.note = &Note{Name: fmt.Sprintf("%s@%s/%s", ref.repo, l.Commit[:12], chosen[0]), Links: map[string]string{}, Beside: besideNames(slices.Collect(maps.Keys(l.Files)))}
	m.Beside = h.beside(ref, l.Commit, m.note.Beside)
	for _, name := range chosen {
		file := l.Files[name]
		blob := filepath.Join(folder, "blobs", file.Digest.Hex())
		m.note.Links[filepath.Join(snapshot, filepath.FromSlash(name))] = blob
		lock := filepath.Join(h.cache, ".locks", filepath.Base(folder), file.Digest.Hex()+".lock")
		m.note.Locks = append(m.note.Locks, lock)
		m.files = append(m.files, remoteFile{name: name, host: fetch.Redact(h.endpoint), File: fetch.File{
			URL:   h.endpoint + "/" + ref.repo + "/resolve/" + l.Commit + "/" + escapePath(name),
			Token: h.token, Path: blob, Digest: file.Digest, Size: file.Size,
			Lock: lock, Limits: h.limits,
		}})
	}
	m.done = func() error {
		for link, blob := range m.note.Links {
			if err := linkTo(link, blob); err != nil {
				return fmt.Errorf("cannot put the model into the cache: %w", err)
			}
		}
		if ref.revision == l.Commit {
			return nil
		}
		return writeRef(h.refFile(ref), l.Commit)
	}
	return m
}

func escapePath(name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// linkTo makes a relative link, so that the cache can be moved. Another process may make it at the same time.
func linkTo(link, target string) error {
	dir := filepath.Dir(link)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	relative, err := filepath.Rel(dir, target)
	if err != nil {
		return err
	}
	if old, err := os.Readlink(link); err == nil && old == relative {
		return nil
	}
	return replace(link, func(temp string) error { return os.Symlink(relative, temp) })
}

// writeRef says which commit a branch or tag is. It is as readable as the rest of the cache, which others share.
func writeRef(path, commit string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return replace(path, func(temp string) error { return os.WriteFile(temp, []byte(commit), 0o666) })
}

// replace makes a file under another name and then gives it its own.
func replace(path string, write func(temp string) error) error {
	temp := fmt.Sprintf("%s.%s.tmp", path, rand.Text()[:8])
	if err := write(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}
