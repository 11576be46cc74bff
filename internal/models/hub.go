package models

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/fetch"
)

// hub is the Hugging Face hub and its cache on this node, which other tools share.
type hub struct {
	endpoint string
	cache    string
	token    string
	offline  bool
	limits   fetch.Limits
}

var errNoHubCache = errors.New("there is no folder to keep models in, since HOME is not set; set HF_HOME")

// hub reads the variables of huggingface_hub.
func (f Finder) hub() (hub, error) {
	get := f.Env
	yes := func(name string) bool {
		return slices.Contains([]string{"1", "ON", "YES", "TRUE"}, strings.ToUpper(get(name)))
	}
	h := hub{
		limits:   f.Limits,
		endpoint: strings.TrimRight(cmp.Or(get("HF_ENDPOINT"), "https://huggingface.co"), "/"),
		offline:  yes("HF_HUB_OFFLINE") || yes("TRANSFORMERS_OFFLINE"),
		token:    strings.TrimSpace(cmp.Or(get("HF_TOKEN"), get("HUGGING_FACE_HUB_TOKEN"))),
	}
	user, noHome := os.UserHomeDir()
	expand := func(path string) string {
		path = os.Expand(path, get)
		if rest, ok := strings.CutPrefix(path, "~/"); ok {
			path = filepath.Join(user, rest)
		}
		return path
	}
	home := expand(get("HF_HOME"))
	if home == "" {
		caches := expand(get("XDG_CACHE_HOME"))
		if caches == "" && noHome == nil {
			caches = filepath.Join(user, ".cache")
		}
		if caches != "" {
			home = filepath.Join(caches, "huggingface")
		}
	}
	h.cache = cmp.Or(f.Hub, expand(get("HF_HUB_CACHE")), expand(get("HUGGINGFACE_HUB_CACHE")))
	if h.cache == "" && home != "" {
		h.cache = filepath.Join(home, "hub")
	}
	if h.cache == "" {
		return h, errNoHubCache
	}
	if h.token == "" {
		if file := cmp.Or(expand(get("HF_TOKEN_PATH")), filepath.Join(home, "token")); filepath.IsAbs(file) {
			data, _ := os.ReadFile(file)
			h.token = strings.TrimSpace(string(data))
		}
	}
	var err error
	h.cache, err = filepath.Abs(h.cache)
	return h, err
}

// HubFolder is the absolute path of the hub's cache.
func (f Finder) HubFolder() (string, error) {
	h, err := f.hub()
	return h.cache, err
}

// findHub finds a model in the cache, or finds out what must be downloaded. What the cache holds for a branch or a tag
// is used without asking the hub, unless refresh is set: a restart needs no network, and all replicas serve the same.
func (f Finder) findHub(ctx context.Context, ref hubRef, refresh bool) (Model, error) {
	h, err := f.hub()
	if err != nil {
		return Model{}, err
	}
	path, there := h.cached(ref, h.offline)
	cached := Model{Path: path}
	if path != "" {
		cached.Beside = h.beside(ref, h.commit(ref), append(there, f.readNote(path).Beside...))
	}
	if cached.Path != "" && (!refresh || h.offline || commitPattern.MatchString(ref.revision)) {
		f.keepNote(cached.Path, nil)
		return cached, nil
	}
	if h.offline {
		return Model{}, fmt.Errorf("it is not in the cache %q, and %w; unset it, or put the model there", h.cache, errOffline)
	}
	listing, err := h.list(ctx, ref)
	if err != nil && cached.Path != "" {
		return cached, nil // as good as it was yesterday
	}
	if err != nil {
		return Model{}, &hubError{h, ref, err}
	}
	names := make([]string, 0, len(listing.Files))
	for name := range listing.Files {
		names = append(names, name)
	}
	chosen := ref.choose(names, true)
	if chosen == nil {
		return Model{}, &Error{Missing, ref.noFile(names)}
	}
	m := h.stage(ref, listing, chosen)
	if m.Path == cached.Path {
		cached.Beside = m.Beside
		return cached, nil
	}
	return m, nil
}

// pinHub finds the commit of a repository that the engine fetches by itself, so that all replicas and restarts serve
// the same. It is taken from the cache, as for other models, and written there. Where the hub cannot be reached, the
// engine has to find its way alone.
func (f Finder) pinHub(ctx context.Context, ref hubRef, refresh bool) (Model, error) {
	h, err := f.hub()
	if err != nil {
		return Model{}, nil //nolint:nilerr // the engine may know a folder
	}
	m := Model{Revision: h.commit(ref)}
	if h.offline || m.Revision != "" && !refresh || m.Revision == ref.revision {
		return m, nil
	}
	listing, err := h.list(ctx, ref)
	var status *fetch.StatusError
	switch {
	case ctx.Err() != nil:
		return Model{}, context.Cause(ctx)
	case err != nil && m.Revision == "" && errors.As(err, &status) && status.Code < 500 && status.Code != 429:
		return Model{}, &hubError{h, ref, err}
	case err != nil || listing.Commit == m.Revision:
		return m, nil //nolint:nilerr // the engine has its own way to the hub
	}
	m.Revision = listing.Commit
	m.Pending = fmt.Sprintf("pin %s at %s to the commit %s", ref.repo, ref.revision, m.Revision)
	m.done = func() error { return writeRef(h.refFile(ref), m.Revision) }
	return m, nil
}

// hubListing is what the hub says of a repository at a revision.
type hubListing struct {
	Commit string
	Files  map[string]hubFile
}

type hubFile struct {
	Size   int64
	Digest fetch.Digest
}

func (h hub) list(ctx context.Context, ref hubRef) (hubListing, error) {
	data, err := fetch.Get(ctx, h.endpoint+"/api/models/"+ref.repo+"/revision/"+url.PathEscape(ref.revision)+"?blobs=true", h.token, 64<<20)
	if err != nil {
		return hubListing{}, err
	}
	var said struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name string `json:"rfilename"`
			Size int64  `json:"size"`
			Blob string `json:"blobId"`
			LFS  *struct {
				SHA256 string `json:"sha256"`
				Size   int64  `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	if err := json.Unmarshal(data, &said); err != nil || !commitPattern.MatchString(said.SHA) {
		return hubListing{}, fmt.Errorf("%s does not answer like the Hugging Face hub; check HF_ENDPOINT", fetch.Redact(h.endpoint))
	}
	l := hubListing{Commit: said.SHA, Files: map[string]hubFile{}}
	for _, s := range said.Siblings {
		file := hubFile{s.Size, fetch.Digest("git:" + s.Blob)}
		if s.LFS != nil {
			file = hubFile{s.LFS.Size, fetch.SHA256(s.LFS.SHA256)}
		}
		if filepath.IsLocal(s.Name) && digestPattern.MatchString(file.Digest.Hex()) {
			l.Files[s.Name] = file
		}
	}
	return l, nil
}

// hubError says what an answer of the hub means.
type hubError struct {
	hub hub
	ref hubRef
	err error
}

func (e *hubError) Unwrap() error { return e.err }

func (e *hubError) Error() string { return e.err.Error() + e.advice() }

func (e *hubError) advice() string {
	var status *fetch.StatusError
	if !errors.As(e.err, &status) {
		return ""
	}
	page := fetch.Redact(e.hub.endpoint) + "/" + e.ref.repo
	switch {
	case status.Code == 401 && e.hub.token == "":
		return fmt.Sprintf("; check that %s exists, and if it is private, set HF_TOKEN to a token that may read it", page)
	case status.Code == 401:
		return fmt.Sprintf("; check that %s exists, and that the token in HF_TOKEN is valid and may read it", page)
	case status.Code == 403:
		return fmt.Sprintf("; accept the terms of %s in a browser, and set HF_TOKEN to a token of that account", page)
	case status.Reason == "RevisionNotFound":
		return fmt.Sprintf("; check the revision %q", e.ref.revision)
	case status.Code == 404:
		return fmt.Sprintf("; check that %s exists", page)
	}
	return ""
}
