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

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/bytesize"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/hubtest"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

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
	r.cfg.Env = map[string]settings.EnvValue{
		"HF_ENDPOINT": {Value: r.API.URL}, "HF_HUB_CACHE": {Value: r.cache}, "HF_TOKEN_PATH": {Value: "/nonexistent"},
		"HF_TOKEN": {Value: ""}, "HF_HUB_OFFLINE": {Value: "0"},
	}
	return r
}

// set gives the replica a variable.
func (r *hubRig) set(name, value string) { r.cfg.Env[name] = settings.EnvValue{Value: value} }

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
	plan, err := planOf(bounded(t), r.cfg, WithCacheDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("download chat-Q4_K_M.gguf from %s, %s; ", r.API.URL, bytesize.Decimal(int64(len(r.tiny))))
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
		if again, err := planOf(bounded(t), r.cfg, WithCacheDir(t.TempDir())); err != nil || again.Model != path || again.Pending != nil {
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

func (j *journal) downloads() []report.Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []report.Progress
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
		kind   engine.ModelKind
		change func(*hubRig)
		cause  engine.Cause
		text   string
	}{
		"no such quantization": {
			id: "hf:" + hubRepo + ":Q2_K", cause: engine.CauseModelMissing,
			text: `"org/Chat-GGUF" has no "Q2_K" at "main": it holds chat-Q4_K_M.gguf, chat-Q8_0.gguf`,
		},
		"no such file": {
			id: "hf:" + hubRepo + "/other.gguf", cause: engine.CauseModelMissing, text: `has no "other.gguf" at "main"`,
		},
		"no such revision": {
			id: "hf:" + hubRepo + "@v9:Q4_K_M", cause: engine.CauseModelMissing, text: `Invalid rev id: v9"; check the revision "v9"`,
		},
		"no such repository": {
			id: "hf:org/other:Q4_K_M", cause: engine.CauseModelMissing,
			text: "/org/other exists, and if it is private, set HF_TOKEN to a token that may read it",
		},
		"private": {
			id: id, change: func(r *hubRig) { r.RequireToken("hf_right"); r.set("HF_TOKEN", "hf_wrong") }, cause: engine.CauseModelMissing,
			text: "that the token in HF_TOKEN is valid and may read it",
		},
		"offline": {
			id: id, change: func(r *hubRig) { r.set("HF_HUB_OFFLINE", "1") }, cause: engine.CauseModelMissing,
			text: "HF_HUB_OFFLINE is set; unset it",
		},
		"no hub": {
			id: id, change: func(r *hubRig) { r.set("HF_ENDPOINT", fmt.Sprintf("http://127.0.0.1:%d", dead)) }, cause: engine.CauseDownload,
			text: "connection refused [download]; check the network, and HTTPS_PROXY where",
		},
		"not a hub": {
			id: id, change: func(r *hubRig) { r.set("HF_ENDPOINT", r.CDN.URL+"/x") }, cause: engine.CauseModelMissing, text: "403 Forbidden",
		},
		"damaged": {
			id: id, change: func(r *hubRig) { r.Inject(hubtest.Damage) }, cause: engine.CauseModelCorrupt, text: "the content has the checksum",
		},
		"no model": {
			id: "hf:" + hubRepo + "/README.md", cause: engine.CauseModelCorrupt, text: `begins with "# A " instead of "GGUF"`,
		},
		"cut short": {
			id: "hf:" + hubRepo + ":F16", change: func(r *hubRig) { r.Add(hubRepo, "chat-F16.gguf", r.tiny[:len(r.tiny)-1000]) },
			cause: engine.CauseModelCorrupt, text: "truncated: its weights need",
		},
		"no such repository, for an engine that fetches": {
			id: "hf:org/other", kind: engine.ModelFolder, cause: engine.CauseModelMissing, text: "/org/other exists",
		},
		"plain http": {
			id: id, change: func(r *hubRig) { r.set("HF_ENDPOINT", "http://hub.example") }, cause: engine.CauseDownload,
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
			if !errors.As(err, &failed) || failed.Cause != c.cause || failed.Retry != (c.cause == engine.CauseDownload) {
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
	option := WithEngine(tuned{kind: engine.ModelFolder})
	first := r.Add(hubRepo, "config.json", []byte("{}"))
	look := func(ref string, refresh bool) models.Model {
		t.Helper()
		r.cfg.Model.ID = "hf:" + hubRepo + ref
		o := newOptions([]Option{WithCacheDir(t.TempDir()), option})
		finder := o.supply.models(r.cfg)
		m, err := finder.Find(bounded(t), r.cfg.model(engine.ModelFolder), refresh)
		if err == nil && refresh {
			err = finder.Fetch(bounded(t), &m, func(models.Progress) {})
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := look("", false); m.Revision != first || m.Pending != "pin "+hubRepo+" at main to the commit "+first {
		t.Errorf("first: %q, pending %q", m.Revision, m.Pending)
	}
	look("", true)
	asked := len(r.Requests())
	second := r.Add(hubRepo, "more.json", []byte("{}"))
	if m := look("", false); m.Revision != first || m.Pending != "" || len(r.Requests()) != asked {
		t.Errorf("again: %q, pending %q, %d requests", m.Revision, m.Pending, len(r.Requests())-asked)
	}
	if m := look("@"+first, true); m.Revision != first || len(r.Requests()) != asked {
		t.Errorf("a commit: %q", m.Revision)
	}
	if m := look("@main", true); m.Revision != second {
		t.Errorf("after a refresh: %q, want %q", m.Revision, second)
	}
	if m := look("@main", false); m.Revision != second || m.Pending != "" {
		t.Errorf("after it: %q, pending %q", m.Revision, m.Pending)
	}
	r.Close()
	if m := look("@v9", false); m.Revision != "" {
		t.Errorf("without a hub: %q", m.Revision)
	}
	spec, err := launchOf(vllm.Engine{}, ProvisionConfig{Engine: "vllm", Port: 1, Model: settings.Model{ID: "hf:org/chat@main"}}, engine.Host{ModelRevision: second})
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
		"variable": func(r *hubRig) { r.set("HF_TOKEN", "hf_right") },
		"reference": func(r *hubRig) {
			r.cfg.Env["HF_TOKEN"] = settings.EnvValue{Secret: &settings.SecretRef{FromFile: file}}
		},
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
	r.cfg.Model = settings.Model{ID: r.API.URL + "/" + hubRepo + "/resolve/main/chat-Q4_K_M.gguf", SHA256: strings.ToUpper(sha256Of(r.tiny))}
	cache := t.TempDir()
	plan, err := planOf(bounded(t), r.cfg, WithCacheDir(cache))
	if err != nil || len(plan.Pending) != 1 || !strings.HasPrefix(plan.Pending[0], "download chat-Q4_K_M.gguf from "+r.API.URL+"; ") || r.Served() != 0 {
		t.Fatalf("%q (%v)", plan.Pending, err)
	}
	p, _ := newLaunch(t, r.cfg, WithCacheDir(cache))
	prepared, err := p.Prepare(bounded(t))
	if want := filepath.Join(cache, "models", sha256Of(r.tiny), "chat-Q4_K_M.gguf"); err != nil || prepared.ModelPath != want {
		t.Fatalf("%q (%v), want %q", prepared.ModelPath, err, want)
	}
	r.Close()
	if plan, err = planOf(bounded(t), r.cfg, WithCacheDir(cache)); err != nil || plan.Pending != nil || plan.Model != prepared.ModelPath {
		t.Errorf("%+v (%v)", plan, err)
	}

	wrong := newHubRig(t, "")
	wrong.cfg.Model = settings.Model{ID: wrong.API.URL + "/" + hubRepo + "/resolve/main/chat-Q4_K_M.gguf", SHA256: sha256Of(nil)}
	_, _, err = wrong.prepare(t)
	wantText(t, err, "the content has the checksum sha256:"+sha256Of(r.tiny), "model_corrupt")
}

// TestStartDownloads starts a replica whose model is still on the hub, and stops another one while it downloads.
func TestStartDownloads(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, "hf:"+hubRepo+":Q4_K_M")
	p, j := ready(t, r.cfg)
	h, err := ReadHandoff(p.run.files.Handoff())
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

func sha256Of(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// A full disk is nobody's fault; where there is no folder to put anything, waiting does not help.
func TestModelCauses(t *testing.T) {
	t.Parallel()
	cfg := ProvisionConfig{Model: settings.Model{ID: "hf:org/repo:Q4"}, Env: map[string]settings.EnvValue{"HF_HUB_OFFLINE": {Value: "1"}}}
	p := newProvisioner(cfg, newOptions(nil))
	for fault, want := range map[models.Fault]engine.Cause{
		models.Missing: engine.CauseModelMissing, models.Corrupt: engine.CauseModelCorrupt, models.Download: engine.CauseDownload, models.BadFlag: engine.CauseBadFlag,
	} {
		var start *StartError
		err := p.startError(&models.Error{Fault: fault, Err: &fetch.SpaceError{Dir: "/", Need: 2, Free: 1}})
		if !errors.As(err, &start) || start.Cause != want || start.Retry != (want == engine.CauseDownload) {
			t.Errorf("%s: %+v", fault, err)
		}
		if e := IncidentOf(err); want == engine.CauseDownload && (!e.Blameless || e.Permanent) {
			t.Errorf("a full disk: %+v", e)
		}
	}
}
