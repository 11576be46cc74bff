package models

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/bytesize"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// remoteFile is a file that is not here yet.
type remoteFile struct {
	fetch.File
	name string
	host string // of whom it is asked for; no secret in it
}

// errOffline says that nothing may be downloaded.
var errOffline = errors.New("HF_HUB_OFFLINE is set")

// findURL finds a model of a plain URL in our own cache, under its checksum.
func (f Finder) findURL(from, sha256 string) (Model, error) {
	u, err := url.Parse(from)
	if err != nil {
		return Model{}, err
	}
	dir, err := f.folder()
	if err != nil {
		return Model{}, err
	}
	digest := fetch.SHA256(sha256)
	m := Model{Path: filepath.Join(dir, digest.Hex(), path.Base(u.Path))}
	if _, err := os.Stat(m.Path); err == nil {
		now := time.Now()
		_ = os.Chtimes(filepath.Dir(m.Path), now, now) // "cache prune" spares what was used of late
		return m, nil
	}
	h, err := f.hub()
	if err == nil && h.offline {
		return Model{}, fmt.Errorf("it is not in the cache %q, and %w; unset it, or put the model there", dir, errOffline)
	}
	file := fetch.File{URL: from, Path: m.Path, Digest: digest, Limits: f.Limits}
	if end, err := url.Parse(h.endpoint); err == nil && end.Host == u.Host && end.Scheme == u.Scheme {
		file.Token = h.token
	}
	m.files = []remoteFile{{File: file, name: path.Base(u.Path), host: u.Scheme + "://" + u.Host}}
	m.done = func() error { return nil }
	return m, nil
}

// ErrNoCache says that there is nowhere to keep what was downloaded.
var ErrNoCache = errors.New("there is no folder for caches: HOME is not set; set XDG_CACHE_HOME")

// folder is where our own cache keeps the models of URLs.
func (f Finder) folder() (string, error) {
	if f.Cache == "" {
		return "", ErrNoCache
	}
	return filepath.Abs(filepath.Join(f.Cache, "models"))
}

// size says what is to be downloaded, and finds out whether it fits.
func (m *Model) size() error {
	var names []string
	var missing, known int64
	for _, f := range m.files {
		n := fetch.Missing(f.File)
		if n == 0 {
			continue // another reference brought it here
		}
		names = append(names, f.name)
		missing += max(0, n)
		known += f.Size
	}
	if len(names) == 0 {
		m.Pending = "link " + m.files[0].name + " to what is in the cache"
		return nil
	}
	dir := access.Existing(filepath.Dir(m.files[0].Path))
	if err := fetch.EnsureSpace(dir, missing); err != nil {
		return &Error{Download, fmt.Errorf("cannot download %s: %w", fileNames(names), err)}
	}
	m.Pending = fmt.Sprintf("download %s from %s", fileNames(names), m.files[0].host)
	if known > 0 {
		m.Pending += fmt.Sprintf(", %s", bytesize.Decimal(missing))
	}
	if known > missing {
		m.Pending += fmt.Sprintf(" (the rest of %s)", bytesize.Decimal(known))
	}
	if free := fetch.Free(dir); free > 0 {
		m.Pending += fmt.Sprintf("; %s are free", bytesize.Decimal(free))
	}
	return nil
}

// fileNames names one file, or the first of several.
func fileNames(names []string) string {
	if len(names) == 1 {
		return tail.Name(names[0])
	}
	return fmt.Sprintf("%s and %d more files", tail.Name(names[0]), len(names)-1)
}

// Progress is how far a download is.
type Progress struct {
	What        string // the file
	Done, Total int64  // bytes of all files of the model; Total is 0 where it is not known
	Rate        float64
	Remaining   float64 // seconds; 0 where it is not known
	Waiting     bool    // another process downloads the file
	Holder      string  // that process, for people; "" where it is not seen
}

// Fetch downloads what is missing, and then looks at the model. tell is called from several goroutines, one after another.
func (f Finder) Fetch(ctx context.Context, m *Model, tell func(Progress)) error {
	if m.done == nil {
		return nil
	}
	if m.note != nil {
		f.keepNote(m.Path, m.note)
	}
	var total, before int64
	for _, file := range m.files {
		total += file.Size
	}
	for _, file := range m.files {
		file.Progress = func(p fetch.Progress) {
			now := Progress{
				What: file.name, Done: before + p.Done, Total: max(total, before+p.Total), Rate: p.Rate, Waiting: p.Waiting,
			}
			if p.Waiting {
				now.Holder = lockHolder(cmp.Or(file.Lock, file.Path+".lock"))
			}
			if p.Rate > 0 {
				now.Remaining = float64(now.Total-now.Done) / p.Rate
			}
			tell(now)
		}
		if err := fetch.Download(ctx, file.File); err != nil {
			return problem(err)
		}
		before += file.Size
	}
	if err := m.done(); err != nil {
		return problem(err)
	}
	return m.check()
}

// lockHolder names a process that holds a lock in which nothing stands, such as one of Python's; "" where none is seen.
func lockHolder(path string) string {
	holders, _ := procfs.Holders(path)
	switch {
	case len(holders) == 0:
		return ""
	case holders[0].PID == os.Getpid():
		return "another replica"
	}
	return fmt.Sprintf("pid %d (%s)", holders[0].PID, holders[0].Comm)
}

// modelProblem tells what a failed download is: a model that cannot be had, or a network that can be better next time.
func problem(err error) error {
	var known *Error
	var status *fetch.StatusError
	var digest *fetch.DigestError
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.As(err, &status) && status.Code < 500 && status.Code != 429:
		return &Error{Missing, err}
	case errors.Is(err, errOffline), errors.Is(err, ErrNoCache), errors.Is(err, errNoHubCache):
		return &Error{Missing, err}
	case errors.As(err, &digest):
		return &Error{Corrupt, err}
	}
	return &Error{Download, err}
}
