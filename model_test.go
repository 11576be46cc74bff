package provisioner

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/hubtest"
)

func TestModelRef(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"hf:org/repo/chat.gguf":                    "org/repo @ main / chat.gguf : ",
		"hf:org/re.po/sub/chat.gguf":               "org/re.po @ main / sub/chat.gguf : ",
		"hf:org/repo@v1.0/chat.gguf":               "org/repo @ v1.0 / chat.gguf : ",
		"hf:org/repo@refs%2Fpr%2F1:Q8_0":           "org/repo @ refs/pr/1 /  : Q8_0",
		"hf:org/repo:q4_k_m":                       "org/repo @ main /  : q4_k_m",
		"hf:org/repo":                              "org/repo @ main /  : ",
		"hf:org/repo/chat-00001-of-00002.gguf":     "org/repo @ main / chat-00001-of-00002.gguf : ",
		"https://models.example/chat.gguf":         "https://models.example/chat.gguf",
		"http://127.0.0.1:80/chat.gguf":            "http://127.0.0.1:80/chat.gguf",
		"chat.gguf":                                "/srv/chat.gguf",
		"hf:repo":                                  `error: "repo" is no repository`,
		"hf:org/repo/":                             `error: "" is no name of a file`,
		"hf:org/repo/../../etc/passwd":             `error: "../../etc/passwd" is no name of a file`,
		"hf:../..:Q4":                              `error: "../.." is no repository`,
		"hf:org/a--b:Q4":                           `error: "org/a--b" is no repository`,
		"hf:org/repo@../x:Q4":                      `error: ".." is no revision`,
		"hf:org/repo@..%2Fx:Q4":                    `error: "..%2Fx" is no revision`,
		"hf:org/repo@:Q4":                          `error: "" is no revision`,
		"hf:org/repo:":                             `error: "" is no quantization`,
		"hf:org/repo:Q4 K":                         `error: "Q4 K" is no quantization`,
		"hf:org/repo/chat-00002-of-00002.gguf":     `error: "chat-00002-of-00002.gguf" is part 2 of a model in 2; name the first`,
		"http://models.example/chat.gguf":          `error: "http://models.example/chat.gguf" is not https`,
		"https://me:hunter2@models.example/a.gguf": "error: holds a user or password",
		"https://models.example/a.gguf?k=hunter2":  "error: holds a query or fragment",
		"https://models.example/":                  `error: "/" is no name of a file`,
		"https://models.example":                   `error: "." is no name of a file`,
		"https://m.example/a-00001-of-00002.gguf":  "error: is a part of a split model",
	} {
		ref, err := ProvisionConfig{Dir: "/srv", Model: ModelConfig{ID: id}}.modelRef(ModelGGUF)
		got := ref.path + ref.url
		if ref.hub != nil {
			got = fmt.Sprintf("%s @ %s / %s : %s", ref.hub.repo, ref.hub.revision, ref.hub.file, ref.hub.quant)
		}
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want && !(strings.HasPrefix(want, "error: ") && strings.HasPrefix(got, want)) {
			t.Errorf("%s:\ngot  %s\nwant %s", id, got, want)
		}
		if strings.Contains(got, "hunter2") {
			t.Errorf("%s: a secret is in %s", id, got)
		}
	}
	for kind, want := range map[ModelKind]string{ModelFolder: "", ModelAny: "", ModelFile: "names no file"} {
		_, err := ProvisionConfig{Model: ModelConfig{ID: "hf:org/repo"}}.modelRef(kind)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("kind %q: %v, want %q", kind, err, want)
		}
	}
}

// An engine that takes folders fetches a model by itself; what goes to its command line is a name and a revision.
func TestModelRefOfFolder(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"hf:org/repo": "", "hf:org/repo@0123abc": "", "hf:org/repo@refs/pr/1": "", "/models/chat": "", "local:chat": "",
		"hf:":                     `"" is no repository`,
		"hf:repo":                 `"repo" is no repository`,
		"hf:--port/1":             `"--port/1" is no repository`,
		"hf:org/repo/a.gguf":      `"org/repo/a.gguf" is no repository`,
		"hf:org/repo:Q4":          `"org/repo:Q4" is no repository`,
		"hf:org/repo@":            `"" is no revision`,
		"hf:org/repo@--port":      `"--port" is no revision`,
		"https://m.example/a.tar": "this engine takes a folder",
		"http://m.example/a.tar":  "this engine takes a folder",
	} {
		ref, err := ProvisionConfig{Dir: "/srv", Model: ModelConfig{ID: id}}.modelRef(ModelFolder)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || ref.hub != nil || ref.url != "" {
			t.Errorf("%s: got %+v, %v, want %q", id, ref, err, want)
		}
	}
}

func FuzzModelRef(f *testing.F) {
	for _, id := range []string{"hf:org/repo@v1/chat.gguf", "hf:a/b:Q4", "https://m.example/a.gguf", "local:a", "hf:a/b@..%2f/c"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		ref, err := ProvisionConfig{Dir: "/srv", Model: ModelConfig{ID: id}}.modelRef(ModelGGUF)
		if err != nil || ref.hub == nil {
			return
		}
		h := hub{cache: "/cache"}
		for _, path := range []string{
			h.folder(ref.hub.repo), filepath.Join("/cache/refs", ref.hub.revision), filepath.Join("/cache/snapshots", ref.hub.file),
		} {
			if !strings.HasPrefix(path, "/cache/") {
				t.Errorf("%q leaves the cache: %q", id, path)
			}
		}
	})
}

func TestQuant(t *testing.T) {
	t.Parallel()
	repo := []string{
		"README.md", "mmproj-Q4_K_M.gguf", "imatrix.gguf", "chat-BF16.gguf", "chat-Q8_0.gguf", "chat-q4_k_m.gguf", "chat-Q4_K_S.gguf",
		"chat.IQ2_XS.gguf", "big/chat-F16-00001-of-00002.gguf", "big/chat-F16-00002-of-00002.gguf", "torn-Q6_K-00001-of-00002.gguf",
		"UD/chat-UD-Q3_K_XL.gguf",
	}
	for quant, want := range map[string][]string{
		"":           {"chat-q4_k_m.gguf"},
		"Q4_K_M":     {"chat-q4_k_m.gguf"},
		"q8_0":       {"chat-Q8_0.gguf"},
		"Q4_K":       nil,
		"Q4":         nil,
		"iq2_xs":     {"chat.IQ2_XS.gguf"},
		"F16":        {"big/chat-F16-00001-of-00002.gguf", "big/chat-F16-00002-of-00002.gguf"},
		"BF16":       {"chat-BF16.gguf"},
		"Q6_K":       nil,
		"UD-Q3_K_XL": {"UD/chat-UD-Q3_K_XL.gguf"},
		".*":         nil,
	} {
		if got := (hubRef{quant: quant}).choose(repo, true); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", quant, got, want)
		}
	}
	others := []string{"b-Q8_0.gguf", "a-Q2_K.gguf", "mmproj.gguf"}
	if got := (hubRef{}).choose(others, true); !slices.Equal(got, []string{"a-Q2_K.gguf"}) {
		t.Errorf("without the usual one: %v", got)
	}
	if got := (hubRef{}).choose(others, false); got != nil {
		t.Errorf("of a part of the files: %v", got)
	}
}

// hubRig is a hub with a model, and a replica that refers to it.
type hubRig struct {
	*hubtest.Hub
	cfg   ProvisionConfig
	cache string // the folder of the hub's cache
	tiny  []byte
}

const hubRepo = "org/Chat-GGUF"

func newHubRig(t *testing.T, id string) *hubRig {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := ggufgen.WriteFile(file, ggufgen.Params{}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := &hubRig{Hub: hubtest.New(), cfg: fakeConfig(t, enginetest.Behavior{}), tiny: content}
	t.Cleanup(r.Close)
	r.Add(hubRepo, "chat-Q4_K_M.gguf", content)
	r.Add(hubRepo, "chat-Q8_0.gguf", append(slices.Clone(content), 0))
	r.AddSmall(hubRepo, "README.md", []byte("# A model\n"))
	r.cfg.Model.ID = id
	r.cache = filepath.Join(t.TempDir(), "hub")
	r.cfg.Env = map[string]EnvValue{
		"HF_ENDPOINT": {Value: r.API.URL}, "HF_HUB_CACHE": {Value: r.cache}, "HF_TOKEN_PATH": {Value: "/nonexistent"},
		"HF_TOKEN": {Value: ""}, "HF_HUB_OFFLINE": {Value: "0"},
	}
	return r
}

// set gives the replica a variable.
func (r *hubRig) set(name, value string) { r.cfg.Env[name] = EnvValue{Value: value} }

func (r *hubRig) prepare(t *testing.T) (Prepared, *journal, error) {
	t.Helper()
	p, j := newLaunch(t, r.cfg)
	prepared, err := p.Prepare(bounded(t))
	return prepared, j, err
}

func (r *hubRig) mustPrepare(t *testing.T) (string, *journal) {
	t.Helper()
	prepared, j, err := r.prepare(t)
	if err != nil {
		t.Fatal(err)
	}
	return prepared.ModelPath, j
}

// TestHubCache holds what is on the disk against the layout of huggingface_hub.
func TestHubCache(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, "hf:"+hubRepo+":q4_k_m")
	plan, err := Plan(bounded(t), r.cfg, WithCacheDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("download chat-Q4_K_M.gguf from %s, %s; ", r.API.URL, fetch.Bytes(int64(len(r.tiny))))
	if len(plan.Pending) != 1 || !strings.HasPrefix(plan.Pending[0], want) || !strings.HasSuffix(plan.Pending[0], " are free") {
		t.Errorf("pending: %q, want %q", plan.Pending, want)
	}
	if _, err := os.Stat(r.cache); !errors.Is(err, os.ErrNotExist) || r.Served() != 0 {
		t.Errorf("the plan has downloaded: %v", err)
	}

	path, j := r.mustPrepare(t)
	folder := filepath.Join(r.cache, "models--org--Chat-GGUF")
	commit, err := os.ReadFile(filepath.Join(folder, "refs/main"))
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(folder, "snapshots", string(commit), "chat-Q4_K_M.gguf"); path != want || path != plan.Model {
		t.Errorf("model at %q, want %q; the plan says %q", path, want, plan.Model)
	}
	if target, err := os.Readlink(path); err != nil || !strings.HasPrefix(target, "../../blobs/") || len(target) != len("../../blobs/")+64 {
		t.Errorf("the snapshot links to %q (%v)", target, err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(r.tiny) {
		t.Errorf("%d bytes (%v)", len(got), err)
	}
	locks, _ := filepath.Glob(filepath.Join(r.cache, ".locks/models--org--Chat-GGUF/*.lock"))
	if len(locks) != 1 || len(filepath.Base(locks[0])) != 64+len(".lock") {
		t.Errorf("locks: %v", locks)
	}
	blobs, _ := os.ReadDir(filepath.Join(folder, "blobs"))
	if len(blobs) != 1 {
		t.Errorf("blobs: %v", blobs)
	}
	last := j.downloads()[len(j.downloads())-1]
	if last.Done != int64(len(r.tiny)) || last.Total != last.Done || last.What != "chat-Q4_K_M.gguf" {
		t.Errorf("progress %+v", last)
	}

	// A start needs no network for what is there, whatever the hub has meanwhile.
	newer := r.Add(hubRepo, "new.txt", []byte("x"))
	asked := len(r.Requests())
	for _, id := range []string{"hf:" + hubRepo, "hf:" + hubRepo + "/chat-Q4_K_M.gguf", "hf:" + hubRepo + "@" + string(commit) + ":Q4_K_M"} {
		r.cfg.Model.ID = id
		if again, err := Plan(bounded(t), r.cfg, WithCacheDir(t.TempDir())); err != nil || again.Model != path || again.Pending != nil {
			t.Errorf("%s: %q, pending %q (%v), want %q", id, again.Model, again.Pending, err, path)
		}
	}
	if len(r.Requests()) != asked {
		t.Error("the hub was asked for what the cache holds")
	}

	if again, _ := r.mustPrepare(t); again != path {
		t.Errorf("a commit became %q", again)
	}

	// Prepare sees that the branch has moved; the content comes from the blob that is there.
	r.cfg.Model.ID = "hf:" + hubRepo
	served := r.Served()
	second, _ := r.mustPrepare(t)
	if !strings.Contains(second, "/snapshots/"+newer+"/") || r.Served() != served {
		t.Errorf("%q, and the content was fetched again: %v", second, r.Served() != served)
	}
	if ref, err := os.ReadFile(filepath.Join(folder, "refs/main")); err != nil || string(ref) != newer {
		t.Errorf("refs/main is %q (%v)", ref, err)
	}
	r.Close()
	if third, _ := r.mustPrepare(t); third != second {
		t.Errorf("without a hub: %q, want %q", third, second)
	}
}

func (j *journal) downloads() []Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []Progress
	for _, e := range j.events {
		if e.Kind == EventProgress {
			all = append(all, *e.Progress)
		}
	}
	return all
}

func TestHubFailures(t *testing.T) {
	t.Parallel()
	dead := enginetest.FreePort(t, 1) // a server that was closed can lend its port to another test's
	const id = "hf:" + hubRepo + ":Q4_K_M"
	for name, c := range map[string]struct {
		id     string
		kind   ModelKind
		change func(*hubRig)
		cause  Cause
		text   string
	}{
		"no such quantization": {
			id: "hf:" + hubRepo + ":Q2_K", cause: CauseModelMissing,
			text: `"org/Chat-GGUF" has no "Q2_K" at "main": it holds chat-Q4_K_M.gguf, chat-Q8_0.gguf`,
		},
		"no such file": {
			id: "hf:" + hubRepo + "/other.gguf", cause: CauseModelMissing, text: `has no "other.gguf" at "main"`,
		},
		"no such revision": {
			id: "hf:" + hubRepo + "@v9:Q4_K_M", cause: CauseModelMissing, text: `Invalid rev id: v9"; check the revision "v9"`,
		},
		"no such repository": {
			id: "hf:org/other:Q4_K_M", cause: CauseModelMissing,
			text: "/org/other exists, and if it is private, set HF_TOKEN to a token that may read it",
		},
		"private": {
			id: id, change: func(r *hubRig) { r.RequireToken("hf_right"); r.set("HF_TOKEN", "hf_wrong") }, cause: CauseModelMissing,
			text: "that the token in HF_TOKEN is valid and may read it",
		},
		"offline": {
			id: id, change: func(r *hubRig) { r.set("HF_HUB_OFFLINE", "1") }, cause: CauseModelMissing,
			text: "HF_HUB_OFFLINE is set; unset it",
		},
		"no hub": {
			id: id, change: func(r *hubRig) { r.set("HF_ENDPOINT", fmt.Sprintf("http://127.0.0.1:%d", dead)) }, cause: CauseDownload,
			text: "connection refused [download]; check the network, and HTTPS_PROXY where",
		},
		"not a hub": {
			id: id, change: func(r *hubRig) { r.set("HF_ENDPOINT", r.CDN.URL+"/x") }, cause: CauseModelMissing, text: "403 Forbidden",
		},
		"damaged": {
			id: id, change: func(r *hubRig) { r.Inject(hubtest.Damage) }, cause: CauseModelCorrupt, text: "the content has the checksum",
		},
		"no model": {
			id: "hf:" + hubRepo + "/README.md", cause: CauseModelCorrupt, text: `begins with "# A " instead of "GGUF"`,
		},
		"cut short": {
			id: "hf:" + hubRepo + ":F16", change: func(r *hubRig) { r.Add(hubRepo, "chat-F16.gguf", r.tiny[:len(r.tiny)-1000]) },
			cause: CauseModelCorrupt, text: "truncated: its weights need",
		},
		"no such repository, for an engine that fetches": {
			id: "hf:org/other", kind: ModelFolder, cause: CauseModelMissing, text: "/org/other exists",
		},
		"plain http": {
			id: id, change: func(r *hubRig) { r.set("HF_ENDPOINT", "http://hub.example") }, cause: CauseDownload,
			text: `"http://hub.example/api/models/org/Chat-GGUF/revision/main" is not https`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newHubRig(t, c.id)
			if c.change != nil {
				c.change(r)
			}
			var opts []Option
			if c.kind != "" {
				opts = append(opts, WithEngine(tuned{kind: c.kind}))
			}
			p, _ := newLaunch(t, r.cfg, opts...)
			_, err := p.Prepare(bounded(t))
			var failed *StartError
			if !errors.As(err, &failed) || failed.Cause != c.cause || failed.Retry != (c.cause == CauseDownload) {
				t.Fatalf("%T: %v", err, err)
			}
			wantText(t, err, c.text)
			for _, secret := range []string{"hf_wrong", "hf_right", hubtest.Signature} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("a secret is in the error: %v", err)
				}
			}
		})
	}
}

// TestHubPin pins a repository that the engine fetches by itself.
func TestHubPin(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, "hf:"+hubRepo)
	engine := WithEngine(tuned{kind: ModelFolder})
	first := r.Add(hubRepo, "config.json", []byte("{}"))
	look := func(ref string, refresh bool) stagedModel {
		t.Helper()
		r.cfg.Model.ID = "hf:" + hubRepo + ref
		o := newOptions([]Option{WithCacheDir(t.TempDir()), engine})
		m, err := o.findModel(bounded(t), r.cfg, ModelFolder, refresh)
		if err == nil && refresh {
			err = o.fetchModel(bounded(t), &m, func(Progress) {})
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := look("", false); m.revision != first || m.pending != "pin "+hubRepo+" at main to the commit "+first {
		t.Errorf("first: %q, pending %q", m.revision, m.pending)
	}
	look("", true)
	asked := len(r.Requests())
	second := r.Add(hubRepo, "more.json", []byte("{}"))
	if m := look("", false); m.revision != first || m.pending != "" || len(r.Requests()) != asked {
		t.Errorf("again: %q, pending %q, %d requests", m.revision, m.pending, len(r.Requests())-asked)
	}
	if m := look("@"+first, true); m.revision != first || len(r.Requests()) != asked {
		t.Errorf("a commit: %q", m.revision)
	}
	if m := look("@main", true); m.revision != second {
		t.Errorf("after a refresh: %q, want %q", m.revision, second)
	}
	if m := look("@main", false); m.revision != second || m.pending != "" {
		t.Errorf("after it: %q, pending %q", m.revision, m.pending)
	}
	r.Close()
	if m := look("@v9", false); m.revision != "" {
		t.Errorf("without a hub: %q", m.revision)
	}
	spec, err := vLLM{}.Launch(ProvisionConfig{Engine: "vllm", Port: 1, Model: ModelConfig{ID: "hf:org/chat@main"}}, Host{ModelRevision: second})
	if err != nil || !strings.Contains(fmt.Sprint(spec.Flags), "--revision "+second) {
		t.Errorf("%v (%v)", spec.Flags, err)
	}
}

func TestHubToken(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("hf_right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]func(*hubRig){
		"variable":   func(r *hubRig) { r.set("HF_TOKEN", "hf_right") },
		"reference":  func(r *hubRig) { r.cfg.Env["HF_TOKEN"] = EnvValue{Secret: &SecretRef{FromFile: file}} },
		"token path": func(r *hubRig) { r.set("HF_TOKEN_PATH", file) },
		"hf home": func(r *hubRig) {
			r.set("HF_TOKEN_PATH", "")
			r.set("HF_HOME", filepath.Dir(file))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newHubRig(t, "hf:"+hubRepo+":Q8_0")
			r.RequireToken("hf_right")
			set(r)
			r.mustPrepare(t)
			for _, req := range r.Requests() {
				if req.CDN && req.Header.Get("Authorization") != "" {
					t.Error("the token went to another host")
				}
			}
		})
	}
}

func TestHubFolders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"},
		{map[string]string{"HUGGINGFACE_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"},
		{map[string]string{"HF_HOME": "/b"}, "/b/hub"},
		{map[string]string{"HF_HOME": "$BASE/hf", "BASE": "/c"}, "/c/hf/hub"},
		{map[string]string{"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"},
	} {
		cfg := ProvisionConfig{Env: map[string]EnvValue{}}
		for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "BASE"} {
			cfg.Env[name] = EnvValue{Value: c.env[name]}
		}
		if h, err := newHub(cfg); err != nil || h.cache != c.want {
			t.Errorf("%v: %q (%v), want %q", c.env, h.cache, err, c.want)
		}
	}
}

// TestHubTwoReplicas has several replicas of a model start at once: one of them fetches it.
func TestHubTwoReplicas(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, "hf:"+hubRepo+":Q4_K_M")
	r.Inject(hubtest.Times(2, hubtest.Cut(1000)))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, _, err := r.prepare(t); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := r.Served(); n > 4 { // a probe, the file, and again after each cut
		t.Errorf("the content was asked for %d times", n)
	}
}

func TestURLModel(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, "")
	r.cfg.Model = ModelConfig{ID: r.API.URL + "/" + hubRepo + "/resolve/main/chat-Q4_K_M.gguf", SHA256: strings.ToUpper(sha256Of(r.tiny))}
	cache := t.TempDir()
	plan, err := Plan(bounded(t), r.cfg, WithCacheDir(cache))
	if err != nil || len(plan.Pending) != 1 || !strings.HasPrefix(plan.Pending[0], "download chat-Q4_K_M.gguf from "+r.API.URL+"; ") || r.Served() != 0 {
		t.Fatalf("%q (%v)", plan.Pending, err)
	}
	p, _ := newLaunch(t, r.cfg, WithCacheDir(cache))
	prepared, err := p.Prepare(bounded(t))
	if want := filepath.Join(cache, "models", sha256Of(r.tiny), "chat-Q4_K_M.gguf"); err != nil || prepared.ModelPath != want {
		t.Fatalf("%q (%v), want %q", prepared.ModelPath, err, want)
	}
	r.Close()
	if plan, err = Plan(bounded(t), r.cfg, WithCacheDir(cache)); err != nil || plan.Pending != nil || plan.Model != prepared.ModelPath {
		t.Errorf("%+v (%v)", plan, err)
	}

	wrong := newHubRig(t, "")
	wrong.cfg.Model = ModelConfig{ID: wrong.API.URL + "/" + hubRepo + "/resolve/main/chat-Q4_K_M.gguf", SHA256: sha256Of(nil)}
	_, _, err = wrong.prepare(t)
	wantText(t, err, "the content has the checksum sha256:"+sha256Of(r.tiny), "model_corrupt")
}

// TestStartDownloads starts a replica whose model is still on the hub, and stops another one while it downloads.
func TestStartDownloads(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, "hf:"+hubRepo+":Q4_K_M")
	p, j := ready(t, r.cfg)
	h, err := ReadHandoff(p.run.files.handoff())
	if err != nil || h.Model.ID != r.cfg.Model.ID || !strings.HasPrefix(h.Model.Path, filepath.Join(r.cache, "models--org--Chat-GGUF/snapshots/")) {
		t.Errorf("handoff %+v (%v)", h.Model, err)
	}
	if len(j.downloads()) == 0 {
		t.Error("nothing was told of the download")
	}

	slow := newHubRig(t, "hf:"+hubRepo+":Q4_K_M")
	begun := make(chan struct{})
	var once sync.Once
	slow.Inject(hubtest.Hang(1000))
	stopped, _ := newLaunch(t, slow.cfg, WithEventFunc(func(e Event) {
		if e.Kind == EventProgress {
			once.Do(func() { close(begun) })
		}
	}))
	failed := make(chan error, 1)
	go func() { failed <- stopped.Start(bounded(t)) }()
	select {
	case <-begun:
	case <-time.After(patience):
		t.Fatal("nothing was told of the download")
	}
	if err := stopped.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, ErrStopped) {
		t.Errorf("Start: %v", err)
	}
}

// TestSplitModel has a model in three parts, of which the first holds no tensors.
func TestSplitModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	parts, err := ggufgen.WriteSplit(filepath.Join(dir, "chat"), ggufgen.Params{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if want := splitNames(filepath.Join(dir, "chat-00001-of-00003.gguf")); !slices.Equal(parts, want) {
		t.Fatalf("parts %v, want %v", parts, want)
	}
	check := func(want string) {
		t.Helper()
		_, err := checkGGUF(parts[0])
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("error = %v, want %q", err, want)
		}
	}
	check("")
	if _, err := checkGGUF(parts[1]); err == nil || !strings.Contains(err.Error(), `is part 2 of a model in 3; name the first in "model.id"`) {
		t.Errorf("second part: %v", err)
	}
	alone := filepath.Join(dir, "alone.gguf")
	data, _ := os.ReadFile(parts[0])
	if err := os.WriteFile(alone, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := checkGGUF(alone); err == nil || !strings.Contains(err.Error(), "says that its model has 3 parts, but its name says 1") {
		t.Errorf("renamed: %v", err)
	}
	info, _ := os.Stat(parts[2])
	if err := os.Truncate(parts[2], info.Size()-1000); err != nil {
		t.Fatal(err)
	}
	check("truncated: its weights need")
	if err := os.Remove(parts[2]); err != nil {
		t.Fatal(err)
	}
	check(fmt.Sprintf("part 3 of 3 is missing: %q", parts[2]))
}

func TestCheckGGUF(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "chat.gguf")
	if err := ggufgen.WriteFile(path, ggufgen.Params{}); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"sound":        {sound, ""},
		"header alone": {[]byte(enginetest.GGUF), ""},
		"a web page":   {[]byte("<!DOCTYPE html>"), `begins with "<!DO" instead of "GGUF"`},
		"short header": {sound[:2000], "ends within its header"},
		"cut short":    {sound[:len(sound)/2], "truncated: its weights need"},
		"many tensors": {[]byte("GGUF\x03\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\x00" + strings.Repeat("\x00", 100)), "it says that it has 72057594037927935 tensors"},
		"new version":  {[]byte("GGUF\x09\x00\x00\x00" + strings.Repeat("\x00", 100)), ""}, // for the engine to judge
	} {
		file := filepath.Join(t.TempDir(), "m.gguf")
		if err := os.WriteFile(file, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := checkGGUF(file)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error = %v, want %q", name, err, c.want)
		}
	}
}

func sha256Of(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// A full disk is nobody's fault; where there is no folder to put anything, waiting does not help.
func TestDownloadCauses(t *testing.T) {
	t.Parallel()
	full := modelProblem(fmt.Errorf("cannot download x: %w", &fetch.SpaceError{Dir: "/", Need: 2, Free: 1}))
	if e := incidentOf(&StartError{Err: full}); !e.Blameless || e.Permanent {
		t.Errorf("a full disk: %+v", e)
	}
	for _, err := range []error{errNoCache, errNoHubCache, errOffline} {
		var model *modelError
		if !errors.As(modelProblem(err), &model) || retryable(model.cause) {
			t.Errorf("%v is tried again", err)
		}
	}
}

// The address of a mirror may hold a password.
func TestHubSecretInEndpoint(t *testing.T) {
	t.Parallel()
	hub := hubtest.New()
	defer hub.Close()
	hub.Add("org/tiny", "tiny-Q4_K_M.gguf", []byte("GGUF"))
	cfg := ProvisionConfig{Model: ModelConfig{ID: "hf:org/tiny"}, Env: map[string]EnvValue{
		"HF_ENDPOINT":    {Value: strings.Replace(hub.API.URL, "http://", "http://user:hunter2@", 1)},
		"HF_HOME":        {Value: t.TempDir()},
		"HF_HUB_OFFLINE": {Value: "0"},
	}}
	o := newOptions([]Option{WithCacheDir(t.TempDir())})
	m, err := o.findModel(t.Context(), cfg, ModelGGUF, false)
	if err != nil || m.pending == "" || strings.Contains(m.pending, "hunter2") {
		t.Errorf("%q (%v)", m.pending, err)
	}
}
