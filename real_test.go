package provisioner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/hubtest"
	"github.com/llama-orch/engine-provisioner/settings"
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
	rec, err := readRecord(p.run.files)
	if err != nil || rec.Exit != "code 0" {
		t.Errorf("exit %q (%v)", rec.Exit, err)
	}
	nothingLeft(t, p)
}

// Through a load that can be seen: 503, then ready.
func TestRealLoad(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, big)
	cfg.Flags = append(cfg.Flags, "--no-mmap")
	p, _ := started(t, cfg)
	waited := make(chan error, 1)
	go func() {
		_, err := p.WaitReady(bounded(t))
		waited <- err
	}()
	eventually(t, "it says that it loads", func() bool { return strings.Contains(p.Status().Heard, "503") })
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

func TestRealStopWhileLoading(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, big)
	cfg.Flags = append(cfg.Flags, "--no-mmap")
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
	cfg.Stop.Grace = settings.Duration(500 * time.Millisecond)
	cfg.Drain.Timeout = new(settings.Duration)
	p, _ := ready(t, cfg)
	streaming := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
		body := `{"prompt":"Hello","n_predict":4000,"stream":true,"ignore_eos":true}`
		resp, err := client.Post(p.handoff.URL+"/completion", "application/json", strings.NewReader(body))
		if err != nil {
			streaming <- err
			return
		}
		defer resp.Body.Close()
		one := make([]byte, 1)
		_, err = resp.Body.Read(one)
		streaming <- err
		for err == nil {
			_, err = resp.Body.Read(one)
		}
	}()
	if err := <-streaming; err != nil {
		t.Errorf("nothing is in flight: %v", err)
	}
	if err := p.Stop(bounded(t)); err != nil && !errors.Is(err, ErrKilled) {
		t.Error(err)
	}
	<-ended
	nothingLeft(t, p)
}

func TestRealSuspended(t *testing.T) {
	t.Parallel()
	p, _ := ready(t, realConfig(t, tiny))
	if err := p.run.host().Leader.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the engine is suspended", func() bool { return stateOf(p.Status().PID) == 'T' })
	p.cfg.Ready.RequestTimeout = settings.Duration(100 * time.Millisecond) // what the drain waits for an answer
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

func TestRealAPIKey(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, tiny)
	key := filepath.Join(cfg.Dir, "key")
	if err := os.WriteFile(key, []byte("# of the router\nthe-key\r\n\n# of the tests\nanother\n#third\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.APIKey = &settings.SecretRef{FromFile: key}
	p, _ := ready(t, cfg)
	if status := statusAt(t, p.handoff.URL+"/props"); status != http.StatusUnauthorized {
		t.Errorf("without the key: %d", status)
	}
	for key, want := range map[string]int{
		"the-key": http.StatusOK, "another": http.StatusOK, "#third": http.StatusUnauthorized, "the-key,another": http.StatusUnauthorized,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.handoff.URL+"/props", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("with %q: %d, want %d", key, resp.StatusCode, want)
		}
	}
	if handoff, err := os.ReadFile(p.run.files.Handoff()); err != nil || bytes.Contains(handoff, []byte("the-key")) || !bytes.Contains(handoff, []byte(key)) {
		t.Errorf("the handoff has a key, or no word of where they are: %s (%v)", handoff, err)
	}
}

func TestRealFailures(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*ProvisionConfig)
		cause  engine.Cause
		text   string
	}{
		"not an adapter": {
			change: func(cfg *ProvisionConfig) {
				file := filepath.Join(cfg.Dir, "adapter.gguf")
				_ = os.WriteFile(file, bytes.Repeat([]byte("garbage "), 1000), 0o600)
				cfg.Flags = append(cfg.Flags, "--lora", file)
			},
			cause: engine.CauseModelCorrupt, text: "magic",
		},
		"no architecture": {
			change: func(cfg *ProvisionConfig) { _ = os.WriteFile(cfg.Model.ID, []byte(enginetest.GGUF), 0o600) },
			cause:  engine.CauseModelCorrupt, text: "unknown model architecture",
		},
		"no such adapter": {
			change: func(cfg *ProvisionConfig) { cfg.Flags = append(cfg.Flags, "--lora", "/nonexistent.gguf") },
			cause:  engine.CauseModelMissing, text: "/nonexistent.gguf",
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
			if !errors.As(err, &exit) {
				t.Fatalf("%T: %v", err, err)
			}
			// b10068 goes on without the adapter and dies of that, at times before the reason is in its log.
			if exit.Signal != "segmentation fault" || exit.Cause != engine.CauseUnknown {
				if exit.Cause != test.cause {
					t.Errorf("cause %q: %v", exit.Cause, err)
				}
				wantText(t, err, test.text)
			}
			nothingLeft(t, p)
		})
	}
}

func TestRealOrphanIsFoundAndStopped(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, tiny)
	p := abandoned(t, cfg)
	attached, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if err := attached.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if _, err := p.run.host().Leader.Child().Wait(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

// A llama-server that is there for something else is asked for that: b11669 dies of a question for a token where it serves
// embeddings of a model with an output of its own.
func TestRealEmbeddings(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{
		"embeddings": {"--embeddings"}, "pooled": {"--embedding", "--pooling", "mean"}, "reranking": {"--reranking"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := realConfig(t, tiny)
			cfg.Flags = append(cfg.Flags, flags...)
			p, _ := ready(t, cfg)
			if p.handoff.Answer != answerOK {
				t.Errorf("answer %q", p.handoff.Answer)
			}
			if err := p.Stop(bounded(t)); err != nil || p.Err() != nil {
				t.Errorf("%v, %v", err, p.Err())
			}
		})
	}
}

// A llama-server without a GPU backend would warn and serve from the CPU. With "gpu: required" its list of devices tells
// before the start, in milliseconds and not after the load.
func TestRealSilentFallback(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, tiny)
	cfg.GPU = engine.GPURequired
	p, _ := newLaunch(t, cfg, withGPUs(stubGPUs{gpus: []engine.GPU{{UUID: "GPU-aaaa", MemoryTotal: 8 << 30, MemoryFree: 8 << 30}}}))
	err := p.Start(bounded(t))
	var gpu *GPUError
	if !errors.As(err, &gpu) {
		t.Fatalf("%T: %v", err, err)
	}
	wantText(t, err, "no backend for a GPU of NVIDIA", "it lists no device")
	if p.Status().PID != 0 {
		t.Error("it was started")
	}
}

// bigAndBusy is a replica of the real engine with a request in flight for n tokens, which takes seconds when n is some
// hundreds. The channel gives how much of the stream the client got, and whether it was whole.
func bigAndBusy(t *testing.T, n int, change func(*ProvisionConfig)) (*EngineProvisioner, *journal, <-chan string) {
	t.Helper()
	cfg := realConfig(t, big)
	cfg.Flags = []string{"--ctx-size", "4096", "--threads", "1"}
	change(&cfg)
	p, j := ready(t, cfg)
	streaming, result := make(chan struct{}), make(chan string, 1)
	go func() {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		body := fmt.Sprintf(`{"prompt":"Hello","n_predict":%d,"stream":true,"ignore_eos":true}`, n)
		resp, err := client.Post(p.handoff.URL+"/completion", "application/json", strings.NewReader(body))
		if err != nil {
			close(streaming)
			result <- err.Error()
			return
		}
		defer resp.Body.Close()
		first := make([]byte, 1)
		_, _ = resp.Body.Read(first)
		close(streaming)
		rest, err := io.ReadAll(resp.Body)
		if err == nil && bytes.Contains(rest, []byte(`"stop":true`)) {
			result <- "whole"
			return
		}
		result <- fmt.Sprintf("cut after %d bytes (%v)", len(rest), err)
	}()
	<-streaming
	return p, j, result
}

// A client gets its whole answer when it ends before the deadline.
func TestRealDrain(t *testing.T) {
	t.Parallel()
	p, j, result := bigAndBusy(t, 100, func(cfg *ProvisionConfig) { cfg.Drain.Timeout = new(settings.Duration(10 * time.Minute)) })
	if err := p.Stop(context.Background()); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if got := <-result; got != "whole" {
		t.Errorf("the client's answer was %s", got)
	}
	nothingLeft(t, p)
	wantNote(t, j, "1 request in flight; waiting for up to 10m0s")
	if m := j.stoppingMessage(); !strings.HasPrefix(m, "drained in ") {
		t.Errorf("stopping: %q", m)
	}
	if rec, err := readRecord(p.run.files); err != nil || rec.Exit != "code 0" {
		t.Errorf("exit %q (%v)", rec.Exit, err)
	}
}

// Afterwards the server is gone, and the client is cut no earlier.
func TestRealDrainDeadline(t *testing.T) {
	t.Parallel()
	const limit = 3 * time.Second
	p, j, result := bigAndBusy(t, 4000, func(cfg *ProvisionConfig) {
		cfg.Drain.Timeout = new(settings.Duration(limit))
		cfg.Stop.Grace = settings.Duration(500 * time.Millisecond)
	})
	began := time.Now()
	stopped := stopping(bounded(t), p)
	select {
	case got := <-result:
		t.Fatalf("%s after %s", got, time.Since(began))
	case <-time.After(limit - 100*time.Millisecond):
	}
	if err := <-stopped; err != nil && !errors.Is(err, ErrKilled) {
		t.Errorf("Stop: %v", err)
	}
	if got := <-result; !strings.HasPrefix(got, "cut") {
		t.Errorf("the client's answer was %s", got)
	}
	nothingLeft(t, p)
	wantNote(t, j, "the drain's 3s are over with 1 request in flight")
}

func TestRealAttachedDrain(t *testing.T) {
	t.Parallel()
	p, _, result := bigAndBusy(t, 100, func(cfg *ProvisionConfig) { cfg.Drain.Timeout = new(settings.Duration(10 * time.Minute)) })
	p.Release()
	t.Cleanup(func() { _ = p.run.host().Leader.Child().Kill(); _, _ = p.run.host().Leader.Child().Wait() })
	attached, err := Attach(p.cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if err := attached.Stop(context.Background()); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if got := <-result; got != "whole" {
		t.Errorf("the client's answer was %s", got)
	}
	_, _ = p.run.host().Leader.Child().Wait()
	nothingLeft(t, p)
}

// TestRealHubModel fetches a model from a hub that cuts connections, whole and in parts, and has a real engine serve it.
func TestRealHubModel(t *testing.T) {
	t.Parallel()
	hub := hubtest.New()
	t.Cleanup(hub.Close)
	dir := t.TempDir()
	parts, err := ggufgen.WriteSplit(filepath.Join(dir, "chat-Q8_0"), tiny, 3)
	if err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(dir, "chat-Q4_K_M.gguf")
	if err := ggufgen.WriteFile(whole, tiny); err != nil {
		t.Fatal(err)
	}
	var commit string
	for _, path := range append(parts, whole) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		commit = hub.Add("org/chat", filepath.Base(path), data)
	}
	hub.Inject(hubtest.Times(3, hubtest.Cut(100_000)))
	for id, name := range map[string]string{
		"hf:org/chat:Q8_0":                  "chat-Q8_0-00001-of-00003.gguf",
		"hf:org/chat@main/chat-Q4_K_M.gguf": "chat-Q4_K_M.gguf",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := realConfig(t, tiny)
			cfg.Model.ID = id
			cfg.Env = map[string]settings.EnvValue{"HF_ENDPOINT": {Value: hub.API.URL}, "HF_HUB_OFFLINE": {Value: "0"}, "HF_HOME": {Value: filepath.Join(dir, "hf-"+name)}}
			p, _ := ready(t, cfg)
			want := filepath.Join(dir, "hf-"+name, "hub/models--org--chat/snapshots", commit, name)
			if p.handoff.Model != (HandoffModel{ID: id, Path: want}) {
				t.Errorf("the handoff says %+v, want the path %q", p.handoff.Model, want)
			}
		})
	}
}
