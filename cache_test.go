package provisioner

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	store "github.com/llama-orch/engine-provisioner/internal/cache"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/hubtest"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/settings"
)

// TestCache fills the cache by all ways, lists it and empties it.
func TestCache(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	r := newHubRig(t, "hf:"+hubRepo+":Q4_K_M")
	prepare := func() string {
		t.Helper()
		p, _ := newLaunch(t, r.cfg, WithCacheDir(cache))
		prepared, err := p.Prepare(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		return prepared.ModelPath
	}
	hubModel := prepare()
	again := r.cfg
	r.cfg.Model = settings.Model{ID: r.API.URL + "/" + hubRepo + "/resolve/main/chat-Q4_K_M.gguf", SHA256: sha256Of(r.tiny)}
	urlModel := prepare()
	r.cfg = again
	for path, content := range map[string]string{
		"engines/source-0123/manifest.json":                       `{"what": "llama.cpp b1", "executable": "bin/llama-server"}`,
		"engines/source-0123/bin/llama":                           strings.Repeat("x", 10000),
		"engines/package-4567/venv/bin/vllm":                      "x",
		"engines/package-4567.lock":                               "",
		"engines/package-89ab.lock":                               "", // of what was removed by hand
		"engines/package-89ab.ref":                                `{"entry": "package-0000"}`,
		"engines/package-cdef.ref":                                `{"entry": "package-4567"}`,
		"llama-server/b1/llama-server":                            "x",
		"models/" + strings.Repeat("a", 64) + "/b.gguf.part":      strings.Repeat("x", 5000),
		"models/" + strings.Repeat("a", 64) + "/b.gguf.part.json": "{}",
		"models/" + strings.Repeat("a", 64) + "/b.gguf.lock":      "",
	} {
		path = filepath.Join(cache, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	list := func() []string {
		t.Helper()
		items, err := stored(cache).List()
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, i := range items {
			if i.Bytes <= 0 || time.Since(i.UsedAt) > time.Hour {
				t.Errorf("%+v", i)
			}
			lines = append(lines, fmt.Sprintf("%s %s partial %v in use %v", i.Kind, i.Name, i.Partial, i.InUse))
		}
		slices.Sort(lines)
		return lines
	}
	commit := filepath.Base(filepath.Dir(hubModel))
	want := []string{
		"engine llama.cpp b1 partial false in use false",
		"engine package-4567 partial true in use false",
		"facts facts about executables partial false in use false",
		"hub_model " + hubRepo + "@" + commit[:12] + "/chat-Q4_K_M.gguf partial false in use false",
		"model b.gguf partial true in use false",
		"model chat-Q4_K_M.gguf partial false in use false",
		"other llama-server partial false in use false",
	}
	if got := list(); !slices.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	// What a process works with stays.
	running, _ := ready(t, again, WithCacheDir(cache))
	unlock, err := fetch.Lock(t.Context(), filepath.Join(cache, "engines/package-4567.lock"), func() {})
	if err != nil {
		t.Fatal(err)
	}
	everything := func(store.Item) bool { return true }
	removed, err := stored(cache).Prune(everything)
	if err != nil || len(removed) != 5 {
		t.Errorf("removed %d items (%v)", len(removed), err)
	}
	if _, err := os.Stat(hubModel); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(urlModel); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the model of a URL: %v", err)
	}
	unlock()
	if err := running.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if _, err := stored(cache).Prune(everything); err != nil {
		t.Error(err)
	}
	if got := list(); got != nil {
		t.Errorf("left: %v", got)
	}
	if got := leftBelow(t, cache, r.cache); got != nil {
		t.Errorf("files left: %v", got)
	}
	blobs, _ := filepath.Glob(filepath.Join(r.cache, "models--org--Chat-GGUF/blobs/*"))
	if _, err := os.Lstat(hubModel); !errors.Is(err, fs.ErrNotExist) || len(blobs) > 0 {
		t.Errorf("left of the hub's model: %v, blobs %v", err, blobs)
	}
}

// TestCacheSparesOthers removes a model of the hub whose content another commit has, too.
func TestCacheSparesOthers(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	r := newHubRig(t, "hf:"+hubRepo+":Q4_K_M")
	var paths []string
	for range 2 {
		p, _ := newLaunch(t, r.cfg, WithCacheDir(cache))
		prepared, err := p.Prepare(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, prepared.ModelPath)
		r.Add(hubRepo, "more.txt", []byte("x"))
	}
	first := func(i store.Item) bool { return i.Path == paths[0] }
	if removed, err := stored(cache).Prune(first); err != nil || len(removed) != 1 {
		t.Fatalf("%v (%v)", removed, err)
	}
	if _, err := os.Stat(paths[1]); err != nil {
		t.Errorf("the other commit has lost its content: %v", err)
	}
}

// TestCacheSparesDownloads removes a model of the hub while another tool downloads a file of the same commit, which has made
// the commit's folder and will not make it again; and afterwards, when nothing but notes of the tool's own is left.
func TestCacheSparesDownloads(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, "hf:"+hubRepo+":Q4_K_M")
	cache := WithCacheDir(t.TempDir())
	prepare := func() string {
		t.Helper()
		p, _ := newLaunch(t, r.cfg, cache)
		prepared, err := p.Prepare(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		return prepared.ModelPath
	}
	prune := func() {
		t.Helper()
		removed, err := stored(CacheDir(cache)).Prune(func(i store.Item) bool { return i.Kind == store.HubModel })
		if err != nil || len(removed) != 1 {
			t.Fatalf("%v (%v)", removed, err)
		}
	}
	model := prepare()
	snapshot := filepath.Dir(model)
	repo := filepath.Dir(filepath.Dir(snapshot))
	unlock, err := fetch.Lock(t.Context(), filepath.Join(r.cache, ".locks", filepath.Base(repo), "another.lock"), func() {})
	if err != nil {
		t.Fatal(err)
	}
	prune()
	if access.Exists(model) || !access.Exists(snapshot) || !access.Exists(filepath.Join(repo, "refs", "main")) || !access.Exists(filepath.Join(repo, "blobs")) {
		t.Errorf("left: %v", leftBelow(t, r.cache))
	}
	unlock()
	none := filepath.Join(repo, ".no_exist", filepath.Base(snapshot))
	if err := os.MkdirAll(none, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(none, "adapter_config.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	prepare()
	prune()
	if access.Exists(repo) {
		t.Errorf("left: %v", leftBelow(t, r.cache))
	}
}

// TestCacheOfABrokenDownload has a download that failed halfway: it is listed as not complete, and can be removed.
func TestCacheOfABrokenDownload(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	r := newHubRig(t, "hf:"+hubRepo+":Q4_K_M")
	r.Inject(hubtest.Times(1, hubtest.Cut(100_000)))
	r.Inject(func(w http.ResponseWriter, req *http.Request, cdn bool, _ http.Handler) bool {
		gone := cdn && req.Header.Get("Range") != "bytes=0-0"
		if gone {
			w.WriteHeader(http.StatusNotFound)
		}
		return gone
	})
	p, _ := newLaunch(t, r.cfg, WithCacheDir(cache))
	if _, err := p.Prepare(bounded(t)); err == nil {
		t.Fatal("no error")
	}
	plan, err := planOf(bounded(t), r.cfg, WithCacheDir(cache))
	if err != nil || len(plan.Pending) != 1 || !strings.Contains(plan.Pending[0], " (the rest of ") {
		t.Errorf("pending %q (%v)", plan.Pending, err)
	}
	items, err := stored(cache).List()
	if err != nil || len(items) < 1 || !items[len(items)-1].Partial || items[len(items)-1].Bytes < 90_000 {
		t.Fatalf("%+v (%v)", items, err)
	}
	if _, err := stored(cache).Prune(func(store.Item) bool { return true }); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(r.cache, "models--org--Chat-GGUF/blobs/*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// An executable is run only from a folder in which nobody else can put one; and what is being made is not removed.
func TestCacheOfEngines(t *testing.T) {
	t.Parallel()
	cfg, _ := downloading(t)
	s := newSite(t)
	archive := tarball(t, "llama-server", "#!/bin/sh\n")
	cfg.Provisioning.Binary = &settings.Binary{URL: s.put("/x.tar.gz", archive), SHA256: sha256Of(archive)}
	dir := t.TempDir()
	engines := filepath.Join(dir, "engines")
	if err := os.MkdirAll(engines, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(engines, 0o777); err != nil { //nolint:gosec // that is what is wrong with it
		t.Fatal(err)
	}
	p, _ := newLaunch(t, cfg, WithCacheDir(dir))
	if _, err := p.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "others may write to it (mode 0777); run chmod 700") {
		t.Errorf("%v", err)
	}
	if len(s.requests()) != 0 {
		t.Errorf("something was downloaded: %v", s.requests())
	}
	if err := os.Chmod(engines, 0o700); err != nil { //nolint:gosec // a folder
		t.Fatal(err)
	}
	made := filepath.Join(engines, "source-0123456789abcdef")
	if err := os.Mkdir(made, 0o700); err != nil {
		t.Fatal(err)
	}
	items, err := stored(dir).List()
	if err != nil || len(items) != 1 {
		t.Fatalf("%v (%v)", items, err)
	}
	var lock *state.Lock
	removed, err := stored(dir).Prune(func(store.Item) bool { // after the look at it
		var err error
		if lock, err = state.TryLock(made + ".lock"); err != nil {
			t.Fatal(err)
		}
		return true
	})
	if err != nil || len(removed) != 0 || !access.Exists(made) {
		t.Errorf("%v (%v)", removed, err)
	}
	lock.Release()
	_, _ = p.Prepare(t.Context()) // the engine is there, although it tells no version
	removed, err = stored(dir).Prune(func(i store.Item) bool { return i.Kind == store.Engine })
	if err != nil || len(removed) != 2 || access.Exists(made) {
		t.Errorf("%v (%v)", removed, err)
	}
	if got := leftBelow(t, engines); got != nil {
		t.Errorf("files left: %v", got)
	}
}

// leftBelow are the paths of all files below folders. Locks of the hub's cache are left out, which other tools leave, too.
func leftBelow(t testing.TB, dirs ...string) []string {
	t.Helper()
	var paths []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !strings.Contains(path, "/.locks/") {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// stored is the cache in a folder.
func stored(dir string) store.Cache { return store.Cache{Dir: dir} }
