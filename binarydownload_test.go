package provisioner

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// tarball makes a tar.gz of names and contents; what begins with "->" is a link.
func tarball(t testing.TB, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(files[i+1]))}
		if target, ok := strings.CutPrefix(files[i+1], "->"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		err := w.WriteHeader(h)
		if err == nil && h.Size > 0 {
			_, err = io.WriteString(w, files[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// site serves files and, as the API of GitHub does, releases of them.
type site struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte // by the URL's path
	asked []string          // paths, with the token that came along
	hold  chan struct{}     // not nil: contents wait for it in their middle
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{files: map[string][]byte{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Authorization")))
		data, ok := s.files[r.URL.Path]
		hold := s.hold
		s.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		if hold != nil {
			w = holding{w, r.Context(), hold}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(s.Close)
	return s
}

// holding sends the second half of what is written when it may.
type holding struct {
	http.ResponseWriter
	ctx  context.Context
	hold chan struct{}
}

func (h holding) Write(p []byte) (int, error) {
	n, err := h.ResponseWriter.Write(p[:len(p)/2])
	_ = http.NewResponseController(h.ResponseWriter).Flush()
	select {
	case <-h.hold:
	case <-h.ctx.Done():
	}
	if err == nil {
		var rest int
		rest, err = h.ResponseWriter.Write(p[len(p)/2:])
		n += rest
	}
	return n, err
}

func (s *site) put(path string, data []byte) (url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = data
	return s.URL + path
}

func (s *site) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// release publishes files as the API tells them.
func (s *site) release(t testing.TB, tag string, files map[string][]byte) {
	t.Helper()
	var assets []map[string]any
	for name, data := range files {
		url := s.put("/download/"+name, data)
		assets = append(assets, map[string]any{"name": name, "browser_download_url": url, "size": len(data), "digest": "sha256:" + sha256Of(data)})
	}
	doc, err := json.Marshal(map[string]any{"tag_name": tag, "prerelease": true, "assets": assets})
	if err != nil {
		t.Fatal(err)
	}
	s.put("/repos/ggml-org/llama.cpp/releases/tags/"+tag, doc)
}

func withReleases(s *site) Option { return func(o *options) { o.supply.api = s.URL } }

// downloading is a replica whose engine is downloaded, and the text of that engine.
func downloading(t *testing.T) (cfg ProvisionConfig, engine string) {
	t.Helper()
	cfg = fakeConfig(t, enginetest.Behavior{})
	engine = string(mustRead(t, cfg.Provisioning.Binary.Path))
	cfg.Provisioning = settings.Provisioning{Binary: &settings.Binary{}}
	return cfg, engine
}

// cpuAsset is the name of the file for this machine.
func cpuAsset(tag string) string {
	system := map[string]string{"linux": "ubuntu", "darwin": "macos"}[runtime.GOOS]
	arch := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	return "llama-" + tag + "-bin-" + system + "-" + arch + ".tar.gz"
}

// A release is looked up, downloaded, checked, unpacked and run; the next start asks nobody.
func TestStartDownloadsRelease(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", "ghp_secret")
	cfg, engine := downloading(t)
	cfg.Provisioning.Binary.Release = "b11434"
	s := newSite(t)
	s.release(t, "b11434", map[string][]byte{
		cpuAsset("b11434"):                 tarball(t, "llama-b11434/llama-server", engine, "llama-b11434/libx.so", "->libx.so.0", "llama-b11434/libx.so.0", "x"),
		"llama-b11434-bin-win-cpu-x64.zip": []byte("PK"),
	})
	cache := t.TempDir()
	plan, err := planOf(bounded(t), cfg, WithCacheDir(cache), withReleases(s))
	if err != nil || len(plan.Pending) != 1 || plan.Pending[0] != "download llama-server from release b11434 of ggml-org/llama.cpp" || len(s.requests()) > 0 {
		t.Errorf("%q, %v, asked for %q", plan.Pending, err, s.requests())
	}
	p, j := newLaunch(t, cfg, WithCacheDir(cache), withReleases(s))
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if h, err := p.WaitReady(bounded(t)); err != nil || h.ProvisioningMode != "binary" {
		t.Errorf("%+v, %v", h, err)
	}
	for _, request := range s.requests() {
		if strings.Contains(request, "ghp_secret") != strings.HasPrefix(request, "/repos/") {
			t.Errorf("the token went along with %q", request)
		}
	}
	for path, text := range filesBelow(t, filepath.Dir(cache)) {
		if strings.Contains(text, "ghp_secret") {
			t.Errorf("the token is in %s", path)
		}
		if strings.Contains(path, ".tar.gz") {
			t.Errorf("%s takes room in the cache", path)
		}
	}
	if steps := j.progress(); len(steps) < 2 || steps[0].Step != report.StepDownload || steps[len(steps)-1].Step != report.StepUnpack {
		t.Errorf("progress: %v", steps)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	s.Close()
	again, _ := newLaunch(t, cfg, WithCacheDir(cache), withReleases(s))
	if prepared, err := again.Prepare(bounded(t)); err != nil || !strings.HasSuffix(prepared.Binary.Path, "/llama-b11434/llama-server") {
		t.Errorf("%+v, %v", prepared.Binary.Path, err)
	}
}

// A download by URL is known by its checksum: nothing of another content is unpacked or run.
func TestDownloadByURL(t *testing.T) {
	t.Parallel()
	cfg, engine := downloading(t)
	s := newSite(t)
	archive := tarball(t, "a/b/llama-server", engine)
	b := cfg.Provisioning.Binary
	prepare := func(cache string) (Prepared, error) {
		p, _ := newLaunch(t, cfg, WithCacheDir(cache))
		return p.Prepare(bounded(t))
	}
	cache := t.TempDir()
	b.URL, b.SHA256, b.Strip = s.put("/engine.tar.gz", archive)+"?sig=secret", strings.ToUpper(sha256Of(archive)), 1
	prepared, err := prepare(cache)
	if err != nil || !strings.HasSuffix(prepared.Binary.Path, "/files/b/llama-server") {
		t.Errorf("%+v, %v", prepared.Binary.Path, err)
	}
	if plan, err := planOf(bounded(t), cfg, WithCacheDir(t.TempDir())); err != nil || strings.Contains(plan.Pending[0], "secret") {
		t.Errorf("%q, %v", plan.Pending, err)
	}
	b.URL, b.SHA256, b.Strip = s.put("/plain", []byte(engine)), sha256Of([]byte(engine)), 0
	if prepared, err := prepare(cache); err != nil || !strings.HasSuffix(prepared.Binary.Path, "/files/llama-server") {
		t.Errorf("%+v, %v", prepared.Binary.Path, err)
	}

	other := tarball(t, "llama-server", "#!/bin/sh\ntouch "+filepath.Join(cfg.Dir, "ran")+"\n")
	for name, c := range map[string]struct {
		data  []byte
		sum   string
		want  string
		cause string
	}{
		"another content":  {other, sha256Of(archive), "has the checksum", "[build_failed]"},
		"no archive":       {[]byte("<html>"), "", `cannot unpack "x": it is neither a tar.gz nor a zip file`, "[build_failed]"},
		"another engine":   {tarball(t, "vllm", "x"), "", `no executable "llama-server" in "x"; is it for another engine`, "[build_failed]"},
		"leads out":        {tarball(t, "../../llama-server", engine), "", "leads out of the folder", "[build_failed]"},
		"is not there":     {nil, sha256Of(nil), "404 Not Found", "[build_failed]"},
		"a broken archive": {archive[:len(archive)/2], "", "unexpected EOF", "[build_failed]"},
	} {
		b.URL, b.SHA256 = s.URL+"/absent", c.sum
		if c.data != nil {
			b.URL = s.put("/x", c.data)
		}
		if c.sum == "" {
			b.SHA256 = sha256Of(c.data)
		}
		dir := t.TempDir()
		_, err := prepare(dir)
		wantText(t, err, "cannot get llama-server", c.want, c.cause)
		if found, _ := filepath.Glob(filepath.Join(dir, "engines", "*", "manifest.json")); len(found) > 0 {
			t.Errorf("%s counts: %q", name, found)
		}
	}
	if access.Exists(filepath.Join(cfg.Dir, "ran")) {
		t.Error("a wrong content was run")
	}
	b.URL = fmt.Sprintf("http://127.0.0.1:%d/x", enginetest.FreePort(t, 1)) // a closed server can lend its port to another test's
	_, err = prepare(t.TempDir())
	wantText(t, err, "connection refused", "[download]")
}

// A download that is interrupted goes on where it was; of two at once, one downloads.
func TestDownloadInterrupted(t *testing.T) {
	t.Parallel()
	cfg, engine := downloading(t)
	s := newSite(t)
	archive := tarball(t, "llama-server", engine)
	cfg.Provisioning.Binary.URL, cfg.Provisioning.Binary.SHA256 = s.put("/engine.tar.gz", archive), sha256Of(archive)
	s.hold = make(chan struct{})
	cache := WithCacheDir(t.TempDir())
	ctx, cancel := context.WithCancel(bounded(t))
	p, _ := newLaunch(t, cfg, cache, WithEventFunc(func(e Event) {
		if e.Progress != nil && e.Progress.Done > 0 {
			cancel()
		}
	}))
	if _, err := p.Prepare(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if plan, err := planOf(bounded(t), cfg, cache); err != nil || len(plan.Pending) != 1 {
		t.Errorf("%q, %v", plan.Pending, err)
	}
	close(s.hold)
	var all sync.WaitGroup
	for range 3 {
		p, _ := newLaunch(t, cfg, cache)
		all.Go(func() {
			if _, err := p.Prepare(bounded(t)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// The names are those of release.yml.
func TestPickLlamaAssets(t *testing.T) {
	t.Parallel()
	full := strings.Fields(`cudart-llama-b11070-bin-ubuntu-cuda-12.8-x64.tar.gz cudart-llama-b11070-bin-ubuntu-cuda-13.3-x64.tar.gz
		cudart-llama-bin-win-cuda-12.4-x64.zip llama-b11070-bin-macos-arm64.tar.gz llama-b11070-bin-macos-x64.tar.gz
		llama-b11070-bin-ubuntu-arm64.tar.gz llama-b11070-bin-ubuntu-cuda-13.3-x64.tar.gz llama-b11070-bin-ubuntu-cuda-12.8-x64.tar.gz
		llama-b11070-bin-ubuntu-rocm-7.2-x64.tar.gz llama-b11070-bin-ubuntu-s390x.tar.gz llama-b11070-bin-ubuntu-vulkan-x64.tar.gz
		llama-b11070-bin-ubuntu-x64.tar.gz llama-b11070-bin-win-cuda-12.4-x64.zip llama-b11070-bin-win-cpu-x64.zip`)
	old := []string{"llama-b5083-bin-ubuntu-x64.zip", "llama-b5083-bin-ubuntu-vulkan-x64.zip", "llama-b5083-bin-macos-arm64.zip"}
	for _, c := range []struct {
		tag, goos, goarch string
		gpu               bool
		names             []string
		want              string
	}{
		{"b11070", "linux", "amd64", false, full, "llama-b11070-bin-ubuntu-x64.tar.gz"},
		{"b11070", "linux", "amd64", true, full, "llama-b11070-bin-ubuntu-cuda-12.8-x64.tar.gz cudart-llama-b11070-bin-ubuntu-cuda-12.8-x64.tar.gz"},
		{"b11070", "linux", "arm64", false, full, "llama-b11070-bin-ubuntu-arm64.tar.gz"},
		{"b11070", "linux", "s390x", false, full, "llama-b11070-bin-ubuntu-s390x.tar.gz"},
		{"b11070", "darwin", "arm64", true, full, "llama-b11070-bin-macos-arm64.tar.gz"},
		{"b5083", "linux", "amd64", false, old, "llama-b5083-bin-ubuntu-x64.zip"},
		{"b11070", "linux", "amd64", true, full[7:8], "llama-b11070-bin-ubuntu-cuda-12.8-x64.tar.gz"},
	} {
		got, err := llamacpp.Engine{}.Program(engine.Request{}).Release.Pick(c.tag, c.names, c.goos, c.goarch, c.gpu)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
	for _, c := range []struct {
		tag, goos, goarch string
		gpu               bool
		names             []string
		want              string
	}{
		{"b11070", "linux", "arm64", true, full, "it has no build with CUDA for linux on arm64"},
		{"b5083", "linux", "amd64", true, old, "it has no build with CUDA for linux on amd64"},
		{"b11027", "linux", "amd64", false, nil, "it has no llama-b11027-bin-ubuntu-x64.tar.gz; some builds lack files"},
		{"b11070", "linux", "riscv64", false, full, "none of its files is for linux on riscv64"},
		{"b11070", "freebsd", "amd64", false, full, "none of its files is for freebsd on amd64"},
	} {
		_, err := llamacpp.Engine{}.Program(engine.Request{}).Release.Pick(c.tag, c.names, c.goos, c.goarch, c.gpu)
		wantText(t, err, c.want)
	}
}

// What a release lacks is told, and not guessed.
func TestReleaseProblems(t *testing.T) {
	t.Parallel()
	cfg, engine := downloading(t)
	b := cfg.Provisioning.Binary
	s := newSite(t)
	prepare := func() error {
		p, _ := newLaunch(t, cfg, withReleases(s))
		_, err := p.Prepare(bounded(t))
		return err
	}
	b.Release = "b1"
	wantText(t, prepare(), `ggml-org/llama.cpp has no release "b1"`, "[build_failed]")
	s.release(t, "b1", nil)
	wantText(t, prepare(), "release b1 of ggml-org/llama.cpp: it has no llama-b1-bin-", "[build_failed]")
	archive := tarball(t, "llama-b1/llama-server", engine)
	s.release(t, "b1", map[string][]byte{cpuAsset("b1"): archive})
	b.SHA256 = strings.Repeat("0", 64)
	wantText(t, prepare(), "has the checksum", "[build_failed]")
	b.SHA256 = ""
	doc := bytes.ReplaceAll(s.files["/repos/ggml-org/llama.cpp/releases/tags/b1"], []byte(`"digest":"sha256:`+sha256Of(archive)+`"`), []byte(`"digest":null`))
	s.put("/repos/ggml-org/llama.cpp/releases/tags/b1", doc)
	wantText(t, prepare(), `tells no checksum of `+cpuAsset("b1")+`; write its "sha256"`, "[build_failed]")
	b.SHA256 = sha256Of(archive)
	if err := prepare(); err != nil {
		t.Error(err)
	}
	s.put("/repos/ggml-org/llama.cpp/releases/tags/b1", []byte("<html>"))
	wantText(t, prepare(), "cannot read the release")
}

// The CUDA runtime comes in an archive of its own, and its libraries go where the engine's loader looks.
func TestRuntimeBeside(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		skip(t, "there is a build with CUDA for one system alone")
	}
	cfg, executable := downloading(t)
	cfg.GPU, cfg.Provisioning.Binary.Release = engine.GPURequired, "b2"
	s := newSite(t)
	s.release(t, "b2", map[string][]byte{
		"llama-b2-bin-ubuntu-cuda-12.8-x64.tar.gz":        tarball(t, "llama-b2/llama-server", executable, "llama-b2/libggml.so", "own"),
		"cudart-llama-b2-bin-ubuntu-cuda-12.8-x64.tar.gz": tarball(t, "lib/libcudart.so.12", "cuda", "lib/libggml.so", "foreign", "lib/README", "x"),
	})
	p, _ := newLaunch(t, cfg, withReleases(s))
	prepared, err := p.Prepare(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(prepared.Binary.Path)
	if string(mustRead(t, filepath.Join(dir, "libcudart.so.12"))) != "cuda" || string(mustRead(t, filepath.Join(dir, "libggml.so"))) != "own" {
		t.Error("the libraries do not lie beside the executable")
	}
	if found, _ := os.ReadDir(dir); len(found) != 3 {
		t.Errorf("%v", found)
	}
}
