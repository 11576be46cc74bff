package provisioner

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

// llamaServer is the real engine: ENGINE_PROVISIONER_LLAMA_SERVER, which "make test" sets.
func llamaServer(t testing.TB) string {
	t.Helper()
	path := os.Getenv("ENGINE_PROVISIONER_LLAMA_SERVER")
	if path == "" {
		skip(t, "needs a real llama-server: set ENGINE_PROVISIONER_LLAMA_SERVER, or run make test")
	}
	return path
}

// realConfig is a replica of the real engine with a tiny generated model.
func realConfig(t testing.TB, size ggufgen.Params) ProvisionConfig {
	t.Helper()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Provisioning.Binary.Path = llamaServer(t)
	cfg.Model.ID = filepath.Join(cfg.Dir, "tiny.gguf")
	if err := ggufgen.WriteFile(cfg.Model.ID, size); err != nil {
		t.Fatal(err)
	}
	cfg.Flags = []string{"--ctx-size", "256", "--threads", "1"}
	return cfg
}

var (
	tiny = ggufgen.Params{}
	// big takes a third of a second to load without mmap, long enough to be seen loading.
	big = ggufgen.Params{Width: 1024, Layers: 8}
)

func TestRealLife(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, tiny)
	cfg.Flags = append(cfg.Flags, "-ngl", "0", "-fa", "off", "--no-mmap")
	p, j := ready(t, cfg)
	h := p.handoff
	if !strings.HasPrefix(h.EngineVersion, "b") || h.Answer != answerOK {
		t.Errorf("%+v", h)
	}
	if notes := j.notes(); notes != "" {
		t.Errorf("notes: %s", notes)
	}
	body, _ := json.Marshal(map[string]any{"prompt": "Hello", "n_predict": 4})
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(h.URL+"/completion", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		TokensPredicted int `json:"tokens_predicted"`
	}
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&answer), resp.Body.Close()); err != nil || answer.TokensPredicted == 0 {
		t.Errorf("answer %+v, %v", answer, err)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	rec, err := p.run.files.readRecord()
	if err != nil || rec.Exit != "code 0" {
		t.Errorf("exit %q (%v)", rec.Exit, err)
	}
	nothingLeft(t, p)
}

// Through a load that can be seen: 503, then ready.
func TestRealLoad(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, big)
	cfg.Flags = append(cfg.Flags, "--load-mode", "none")
	p, _ := ready(t, cfg)
	if heard := p.Status().Heard; !strings.Contains(heard, "503") && !strings.Contains(heard, "refused") {
		t.Errorf("heard %q while it loaded", heard)
	}
}

func TestRealStopWhileLoading(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, big)
	cfg.Flags = append(cfg.Flags, "--load-mode", "none")
	p, _ := started(t, cfg)
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

// It neither answers nor hangs up when it is told to end with a request in flight; the grace period ends that.
func TestRealStopWithARequestInFlight(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, big)
	cfg.Flags = []string{"--ctx-size", "4096", "--threads", "1"}
	cfg.Stop.Grace = Duration(500 * time.Millisecond)
	cfg.Drain.Timeout = new(Duration)
	p, _ := ready(t, cfg)
	streaming := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
		body := `{"prompt":"Hello","n_predict":4000,"stream":true,"ignore_eos":true}`
		resp, err := client.Post(p.handoff.URL+"/completion", "application/json", strings.NewReader(body))
		if err != nil {
			close(streaming)
			return
		}
		defer resp.Body.Close()
		one := make([]byte, 1)
		_, _ = resp.Body.Read(one)
		close(streaming)
		for err == nil {
			_, err = resp.Body.Read(one)
		}
	}()
	<-streaming
	if err := p.Stop(bounded(t)); err != nil && !errors.Is(err, ErrKilled) {
		t.Error(err)
	}
	<-ended
	nothingLeft(t, p)
}

func TestRealSuspended(t *testing.T) {
	t.Parallel()
	p, _ := ready(t, realConfig(t, tiny))
	if err := p.run.leader.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the engine is suspended", func() bool { return stateOf(p.Status().PID) == 'T' })
	p.cfg.Ready.RequestTimeout = Duration(100 * time.Millisecond) // what the drain waits for an answer
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

func TestRealAPIKey(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, tiny)
	key := filepath.Join(cfg.Dir, "key")
	if err := os.WriteFile(key, []byte("the-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.APIKey = &SecretRef{FromFile: key}
	p, _ := ready(t, cfg)
	if status := statusAt(t, p.handoff.URL+"/props"); status != http.StatusUnauthorized {
		t.Errorf("without the key: %d", status)
	}
}

func TestRealFailures(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*ProvisionConfig)
		cause  Cause
		text   string
	}{
		"not a model": {
			change: func(cfg *ProvisionConfig) {
				_ = os.WriteFile(cfg.Model.ID, bytes.Repeat([]byte("garbage "), 1000), 0o600)
			},
			cause: CauseModelCorrupt, text: "magic",
		},
		"truncated model": {
			change: func(cfg *ProvisionConfig) { _ = os.Truncate(cfg.Model.ID, 200_000) },
			cause:  CauseModelCorrupt, text: "not within the file bounds",
		},
		"a folder": {
			change: func(cfg *ProvisionConfig) { cfg.Model.ID = cfg.Dir },
			cause:  CauseModelCorrupt, text: "magic",
		},
		"no such adapter": {
			change: func(cfg *ProvisionConfig) { cfg.Flags = append(cfg.Flags, "--lora", "/nonexistent.gguf") },
			cause:  CauseModelMissing, text: "/nonexistent.gguf",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := realConfig(t, tiny)
			test.change(&cfg)
			p, _ := started(t, cfg)
			_, err := p.WaitReady(bounded(t))
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Cause != test.cause || exit.Code != 1 {
				t.Fatalf("%T: %v", err, err)
			}
			wantText(t, err, test.text)
			nothingLeft(t, p)
		})
	}
}

func TestRealOrphanIsFoundAndStopped(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, tiny)
	p := abandoned(t, cfg)
	attached, err := Attach(cfg.StateDir, "pool", "r0")
	if err != nil {
		t.Fatal(err)
	}
	if err := attached.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if _, err := p.run.leader.cmd.Process.Wait(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

// A llama-server that serves a model for embeddings offers no completions in some builds; either way it is ready.
func TestRealEmbeddings(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, tiny)
	cfg.Flags = append(cfg.Flags, "--embeddings", "--pooling", "mean")
	p, _ := ready(t, cfg)
	if p.handoff.Answer != answerOK && p.handoff.Answer != answerNotOffered {
		t.Errorf("answer %q", p.handoff.Answer)
	}
}

// A llama-server without a GPU backend warns and serves from the CPU. With "gpu: required" that is a failed start, seen
// while it loads.
func TestRealSilentFallback(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, tiny)
	cfg.GPU = GPURequired
	p, _ := started(t, cfg, withGPUs(stubGPUs{gpus: []GPU{{UUID: "GPU-aaaa", MemoryTotal: 8 << 30, MemoryFree: 8 << 30}}}))
	_, err := p.WaitReady(bounded(t))
	var gpu *GPUError
	if !errors.As(err, &gpu) {
		t.Fatalf("%T: %v", err, err)
	}
	wantText(t, err, "to the CPU", "no usable GPU found")
	nothingLeft(t, p)
}
