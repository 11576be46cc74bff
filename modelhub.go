package provisioner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/fetch"
)

// hubRef is a model in a repository of the Hugging Face hub: one file of it, or the quantization that fits.
type hubRef struct {
	repo, revision string // "owner/name", and a branch, tag or commit
	file           string // path in the repository; "" to choose by quant
	quant          string // such as "Q4_K_M"; "" for the usual one
}

var (
	repoPattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$`)
	quantPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	commitPattern = regexp.MustCompile(`^[0-9a-f]{40}$`)
	digestPattern = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
)

// parseHubRef reads "hf:owner/repo[@revision]/file" and, for engines that take GGUF files, "hf:owner/repo[@revision][:QUANT]".
func parseHubRef(id string, kind ModelKind) (*hubRef, error) {
	const forms = `write "hf:owner/repo/file.gguf" or "hf:owner/repo:QUANT", with "@revision" behind the repository to pin it`
	rest := strings.TrimPrefix(id, "hf:")
	owner, rest, _ := strings.Cut(rest, "/")
	end := strings.IndexAny(rest, "@/:")
	if end < 0 {
		end = len(rest)
	}
	ref := &hubRef{repo: strings.TrimSuffix(owner+"/"+rest[:end], "/"), revision: "main"}
	rest = rest[end:]
	if after, ok := strings.CutPrefix(rest, "@"); ok {
		end := strings.IndexAny(after, "/:")
		if end < 0 {
			end = len(after)
		}
		var err error
		// A slash in a revision is written as the hub does in its URLs: refs%2Fpr%2F1.
		if ref.revision, err = url.PathUnescape(after[:end]); err != nil || !filepath.IsLocal(ref.revision) ||
			strings.ContainsAny(ref.revision, " \\?*[^~:") {
			return nil, fmt.Errorf("%q is no revision; %s", after[:end], forms)
		}
		rest = after[end:]
	}
	switch {
	case !repoPattern.MatchString(ref.repo) || strings.Contains(ref.repo, "--") || strings.Contains(ref.repo, ".."):
		return nil, fmt.Errorf("%q is no repository; %s", ref.repo, forms)
	case strings.HasPrefix(rest, "/"):
		ref.file = rest[1:]
		if err := checkFileName(ref.file); err != nil {
			return nil, fmt.Errorf("%w; %s", err, forms)
		}
		if _, part, of := splitName(ref.file); of > 0 && part != 1 {
			return nil, fmt.Errorf("%q is part %d of a model in %d; name the first, and all are fetched", ref.file, part, of)
		}
		return ref, nil
	case kind != ModelGGUF:
		return nil, fmt.Errorf(`%q names no file; write "hf:owner/repo/file"`, id)
	}
	ref.quant = strings.TrimPrefix(rest, ":")
	if rest != "" && !quantPattern.MatchString(ref.quant) {
		return nil, fmt.Errorf("%q is no quantization; %s", ref.quant, forms)
	}
	return ref, nil
}

// defaultQuant is llama-server's for "-hf owner/repo".
const defaultQuant = "Q4_K_M"

// choose picks the files of the model among those of a repository, as llama-server does: the quantization in the name,
// in any case, and without one the default, or else the first model if first is set.
func (r hubRef) choose(names []string, first bool) []string {
	if r.file != "" {
		return allParts(r.file, names)
	}
	names = slices.Sorted(slices.Values(names))
	named := func(quant string) []string {
		word := regexp.MustCompile(`(?i)(^|[-._/])` + regexp.QuoteMeta(quant) + `([-./]|$)`)
		for _, name := range names {
			if isModelFile(name) && word.MatchString(strings.TrimSuffix(name, ".gguf")) {
				if all := allParts(name, names); all != nil {
					return all
				}
			}
		}
		return nil
	}
	if r.quant != "" {
		return named(r.quant)
	}
	if all := named(defaultQuant); all != nil || !first {
		return all
	}
	for _, name := range names {
		if all := allParts(name, names); isModelFile(name) && all != nil {
			return all
		}
	}
	return nil
}

// isModelFile leaves out what is in a GGUF file and no model, and all parts of a model but the first.
func isModelFile(name string) bool {
	base := strings.ToLower(path.Base(name))
	_, part, of := splitName(name)
	return strings.HasSuffix(name, ".gguf") && !strings.Contains(base, "mmproj") && !strings.Contains(base, "imatrix") &&
		(of == 0 || part == 1)
}

// allParts is the parts of a model, nil unless all are among names.
func allParts(name string, names []string) []string {
	all := splitNames(name)
	for _, part := range all {
		if !slices.Contains(names, part) {
			return nil
		}
	}
	return all
}

// hub is the Hugging Face hub and its cache on this node, which other tools share.
type hub struct {
	endpoint string
	cache    string
	token    string
	offline  bool
}

// newHub reads the variables of huggingface_hub: those of the replica's env, or else of this program.
func newHub(cfg ProvisionConfig) (hub, error) {
	get := func(name string) string {
		value, ok := cfg.Env[name]
		switch {
		case !ok:
			return os.Getenv(name)
		case value.Secret == nil:
			return value.Value
		}
		s, err := value.Secret.read(cfg)
		if err != nil {
			return "" // the start tells
		}
		return s.reveal()
	}
	yes := func(name string) bool {
		return slices.Contains([]string{"1", "ON", "YES", "TRUE"}, strings.ToUpper(get(name)))
	}
	h := hub{
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
	h.cache = cmp.Or(expand(get("HF_HUB_CACHE")), expand(get("HUGGINGFACE_HUB_CACHE")))
	if h.cache == "" && home != "" {
		h.cache = filepath.Join(home, "hub")
	}
	if h.cache == "" {
		return hub{}, errors.New("there is no folder to keep models in, since HOME is not set; set HF_HOME")
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

// folder is where the cache keeps a repository.
func (h hub) folder(repo string) string {
	return filepath.Join(h.cache, "models--"+strings.ReplaceAll(repo, "/", "--"))
}

// findHubModel finds a model in the cache, or finds out what must be downloaded. What the cache holds for a branch or a tag
// is used without asking the hub, unless refresh is set: a restart needs no network, and all replicas serve the same.
func (o *options) findHubModel(ctx context.Context, cfg ProvisionConfig, ref hubRef, refresh bool) (stagedModel, error) {
	h, err := newHub(cfg)
	if err != nil {
		return stagedModel{}, err
	}
	cached := stagedModel{path: h.cached(ref, h.offline)}
	if cached.path != "" && (!refresh || h.offline || commitPattern.MatchString(ref.revision)) {
		o.noteHub(cached.path, nil)
		return cached, nil
	}
	if h.offline {
		return stagedModel{}, fmt.Errorf("it is not in the cache %q, and %w; unset it, or put the model there", h.cache, errOffline)
	}
	listing, err := h.list(ctx, ref)
	if err != nil && cached.path != "" {
		return cached, nil //nolint:nilerr // what is there is as good as it was yesterday
	}
	if err != nil {
		return stagedModel{}, &hubError{h, ref, err}
	}
	names := make([]string, 0, len(listing.Files))
	for name := range listing.Files {
		names = append(names, name)
	}
	chosen := ref.choose(names, true)
	if chosen == nil {
		return stagedModel{}, &modelError{CauseModelMissing, ref.noFile(names)}
	}
	if m := h.stage(ref, listing, chosen); m.path != cached.path {
		return m, nil
	}
	return cached, nil
}

// cached is the path of the model in the cache, or "".
func (h hub) cached(ref hubRef, first bool) string {
	commit := ref.revision
	if !commitPattern.MatchString(commit) {
		data, err := os.ReadFile(filepath.Join(h.folder(ref.repo), "refs", filepath.FromSlash(ref.revision)))
		if commit = strings.TrimSpace(string(data)); err != nil || !commitPattern.MatchString(commit) {
			return ""
		}
	}
	snapshot := filepath.Join(h.folder(ref.repo), "snapshots", commit)
	var names []string
	_ = filepath.WalkDir(snapshot, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what cannot be read is not there
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() { // a link may point to nowhere
			name, _ := filepath.Rel(snapshot, path)
			names = append(names, filepath.ToSlash(name))
		}
		return nil
	})
	if chosen := ref.choose(names, first); chosen != nil {
		return filepath.Join(snapshot, filepath.FromSlash(chosen[0]))
	}
	return ""
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

// stage says what is to be downloaded to where, in the layout of huggingface_hub: content under its digest in blobs, and
// links to it, by commit and name, in snapshots.
func (h hub) stage(ref hubRef, l hubListing, chosen []string) stagedModel {
	folder := h.folder(ref.repo)
	snapshot := filepath.Join(folder, "snapshots", l.Commit)
	m := stagedModel{path: filepath.Join(snapshot, filepath.FromSlash(chosen[0]))}
	m.note = &hubNote{Name: fmt.Sprintf("%s@%s/%s", ref.repo, l.Commit[:12], chosen[0]), Links: map[string]string{}}
	for _, name := range chosen {
		file := l.Files[name]
		blob := filepath.Join(folder, "blobs", file.Digest.Hex())
		m.note.Links[filepath.Join(snapshot, filepath.FromSlash(name))] = blob
		lock := filepath.Join(h.cache, ".locks", filepath.Base(folder), file.Digest.Hex()+".lock")
		m.note.Locks = append(m.note.Locks, lock)
		m.files = append(m.files, remoteFile{name: name, host: h.endpoint, File: fetch.File{
			URL:   h.endpoint + "/" + ref.repo + "/resolve/" + l.Commit + "/" + escapePath(name),
			Token: h.token, Path: blob, Digest: file.Digest, Size: file.Size,
			Lock: lock,
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
		return writeRef(filepath.Join(folder, "refs", filepath.FromSlash(ref.revision)), l.Commit)
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
	temp := fmt.Sprintf("%s.%s.tmp", path, newLaunchID()[:8])
	if err := write(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// noFile says that nothing in the repository fits, and what there is.
func (r hubRef) noFile(names []string) error {
	var models []string
	for _, name := range slices.Sorted(slices.Values(names)) {
		if isModelFile(name) {
			models = append(models, name)
		}
	}
	there := "it holds no GGUF file"
	if len(models) > 0 {
		const most = 20
		there = "it holds " + strings.Join(models[:min(most, len(models))], ", ")
		if len(models) > most {
			there += fmt.Sprintf(" and %d more", len(models)-most)
		}
	}
	what := cmp.Or(r.file, r.quant)
	if what == "" {
		return fmt.Errorf("%q has no model at %q: %s", r.repo, r.revision, there)
	}
	return fmt.Errorf("%q has no %q at %q: %s", r.repo, what, r.revision, there)
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
