package provisioner

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/fetch"
)

// DownloadPlan is what Start would download.
type DownloadPlan struct {
	From  string   `json:"from"`  // such as "https://huggingface.co"
	To    string   `json:"to"`    // folder
	Files []string `json:"files"` // that are not here yet
	Bytes int64    `json:"bytes"` // still to come; 0 where the server did not say
	Free  int64    `json:"free"`  // bytes where they go
}

// String tells it to people.
func (d DownloadPlan) String() string {
	what := fmt.Sprintf("%d files", len(d.Files))
	if len(d.Files) == 1 {
		what = d.Files[0]
	}
	size := ""
	if d.Bytes > 0 {
		size = ", " + fetch.Bytes(d.Bytes)
	}
	return fmt.Sprintf("download %s%s from %s to %q, where %s are free", what, size, d.From, d.To, fetch.Bytes(d.Free))
}

// remoteFile is a file that is not here yet.
type remoteFile struct {
	fetch.File
	name string
	host string // of whom it is asked for; no secret in it
}

// errOffline says that nothing may be downloaded.
var errOffline = errors.New("HF_HUB_OFFLINE is set")

// findURLModel finds a model of a plain URL in our own cache, under its checksum.
func (o *options) findURLModel(cfg ProvisionConfig, from string) (stagedModel, error) {
	u, err := url.Parse(from)
	if err != nil {
		return stagedModel{}, err
	}
	dir, err := o.cacheFolder("models")
	if err != nil {
		return stagedModel{}, err
	}
	digest := fetch.SHA256(cfg.Model.SHA256)
	m := stagedModel{path: filepath.Join(dir, digest.Hex(), path.Base(u.Path))}
	if _, err := os.Stat(m.path); err == nil {
		now := time.Now()
		_ = os.Chtimes(filepath.Dir(m.path), now, now) // "cache prune" spares what was used of late
		return m, nil
	}
	h, err := newHub(cfg)
	if err == nil && h.offline {
		return stagedModel{}, fmt.Errorf("it is not in the cache %q, and %w; unset it, or put the model there", dir, errOffline)
	}
	file := fetch.File{URL: from, Path: m.path, Digest: digest}
	if end, err := url.Parse(h.endpoint); err == nil && end.Host == u.Host && end.Scheme == u.Scheme {
		file.Token = h.token
	}
	m.files = []remoteFile{{File: file, name: path.Base(u.Path), host: u.Scheme + "://" + u.Host}}
	m.done = func() error { return nil }
	return m, nil
}

// cacheFolder is a folder of our own cache.
func (o *options) cacheFolder(name string) (string, error) {
	dir := o.cache()
	if dir == "" {
		return "", errors.New("there is no folder to keep downloads in, since HOME is not set; set XDG_CACHE_HOME")
	}
	return filepath.Abs(filepath.Join(dir, name))
}

// size plans the download and finds out whether it fits.
func (m *stagedModel) size() error {
	to := filepath.Dir(m.path)
	m.plan = &DownloadPlan{From: m.files[0].host, To: to}
	need := map[string]int64{} // by folder
	for _, f := range m.files {
		missing := fetch.Missing(f.File)
		if missing == 0 {
			continue // another reference brought it here
		}
		m.plan.Files = append(m.plan.Files, f.name)
		m.plan.Bytes += max(0, missing)
		need[filepath.Dir(f.Path)] += max(0, missing)
	}
	if len(m.plan.Files) == 0 {
		m.plan = nil
		return nil
	}
	for dir, bytes := range need {
		there := dir
		for {
			if _, err := os.Stat(there); err == nil || there == filepath.Dir(there) {
				break
			}
			there = filepath.Dir(there)
		}
		m.plan.Free = fetch.Free(there)
		if err := fetch.EnsureSpace(there, bytes); err != nil {
			return &modelError{CauseDownload, fmt.Errorf("cannot download %d files: %w", len(m.plan.Files), err)}
		}
	}
	return nil
}

// fetch downloads what is missing, and then looks at the model.
func (m *stagedModel) fetch(ctx context.Context, tell func(Progress)) error {
	if len(m.files) == 0 {
		return nil
	}
	var total, before int64
	var last time.Time
	for _, f := range m.files {
		total += f.Size
	}
	for _, f := range m.files {
		for _, file := range []string{f.Path, f.Lock} {
			if file == "" {
				continue
			}
			if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
				return modelProblem(fmt.Errorf("cannot make room for the model: %w", err))
			}
		}
		f.Progress = func(p fetch.Progress) {
			const often = 500 * time.Millisecond
			if time.Since(last) < often && p.Done != p.Total && !p.Waiting {
				return
			}
			last = time.Now()
			now := Progress{
				Step: StepDownload, What: f.name, Done: before + p.Done, Total: max(total, before+p.Total), Rate: p.Rate, Waiting: p.Waiting,
			}
			if p.Rate > 0 {
				now.Remaining = float64(now.Total-now.Done) / p.Rate
			}
			tell(now)
		}
		if err := fetch.Download(ctx, f.File); err != nil {
			return modelProblem(err)
		}
		before += f.Size
	}
	if err := m.done(); err != nil {
		return modelProblem(err)
	}
	return m.check()
}

// modelProblem tells what a failed download is: a model that cannot be had, or a network that can be better next time.
func modelProblem(err error) error {
	var known *modelError
	var status *fetch.StatusError
	var digest *fetch.DigestError
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.As(err, &status) && status.Code < 500 && status.Code != 429:
		return &modelError{CauseModelMissing, err}
	case errors.Is(err, errOffline):
		return &modelError{CauseModelMissing, err}
	case errors.As(err, &digest):
		return &modelError{CauseModelCorrupt, err}
	}
	return &modelError{CauseDownload, err}
}
