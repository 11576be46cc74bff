package provisioner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/hfgen"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/shm"
	"github.com/llama-orch/engine-provisioner/settings"
)

// vllmProgram is the real engine of these tests: ENGINE_PROVISIONER_VLLM, which "make test-vllm" sets. They are no part
// of "make test", in CI either: each start takes 20 to 50 s and 4 GB.
func vllmProgram(t testing.TB) string {
	t.Helper()
	path := os.Getenv("ENGINE_PROVISIONER_VLLM")
	if path == "" {
		t.Skip("needs a real vLLM: run make test-vllm")
	}
	return path
}

// atLeisure is bounded for an engine that takes so long: a start beside another one, on two busy cores.
func atLeisure(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// vllmConfig is a replica of a real vLLM on the CPU with a tiny generated model.
func vllmConfig(t testing.TB) ProvisionConfig {
	t.Helper()
	program, dir := vllmProgram(t), t.TempDir()
	if err := hfgen.Write(filepath.Join(dir, "tiny"), hfgen.Params{}); err != nil {
		t.Fatal(err)
	}
	return vllmReplica(program, dir, "r0", enginetest.FreePort(t, 1))
}

func vllmReplica(program, dir, replica string, port int) ProvisionConfig {
	return ProvisionConfig{
		PoolID: "pool", ReplicaID: replica, StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "vllm", Port: port, Model: settings.Model{ID: filepath.Join(dir, "tiny")}, GPU: engine.GPUNone,
		Flags: []string{"--enforce-eager", "--dtype", "float32"},
		Env: map[string]settings.EnvValue{
			"HF_HUB_OFFLINE": {Value: "1"}, "VLLM_NO_USAGE_STATS": {Value: "1"}, "VLLM_CPU_KVCACHE_SPACE": {Value: "1"},
		},
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: program}},
		Restart:      settings.Restart{InitialDelay: settings.Duration(10 * time.Millisecond)},
		// Much less than the load takes, so it goes on only for its progress: imports are silent, but they use the CPU.
		Ready: settings.Ready{Stall: settings.Duration(10 * time.Second)},
	}
}

// vllmReady starts a launch and waits until it is ready.
func vllmReady(t *testing.T, cfg ProvisionConfig) (*EngineProvisioner, *journal) {
	t.Helper()
	p, j := started(t, cfg)
	began := time.Now()
	if _, err := p.WaitReady(atLeisure(t)); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	return p, j
}

// vllmTree is the processes of a launch by what they call themselves, and their objects below /dev/shm.
func vllmTree(t *testing.T, launch string) (pids map[string]int, objects []string) {
	t.Helper()
	members, err := (&proc.Tree{Mark: launch}).Members()
	if err != nil {
		t.Fatal(err)
	}
	pids = map[string]int{}
	var left shm.Leftovers
	for _, m := range members {
		pids[m.Comm] = m.PID
		left.Note(m.PID)
	}
	return pids, left.Paths()
}

// The kernel cuts names at 15 bytes.
const (
	engineCore = "VLLM::EngineCor"
	vllmWorker = "VLLM::Worker"
)

// vllmGone fails the test unless nothing of the launch is left.
func vllmGone(t *testing.T, p *EngineProvisioner, pids map[string]int, shm []string) {
	t.Helper()
	nothingLeft(t, p)
	for name, pid := range pids {
		if alive(pid) {
			t.Errorf("%s (%d) is alive", name, pid)
		}
	}
	for _, path := range shm {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
}

// streams has n clients ask for tokens. It returns when all have got some, with a channel for what became of each.
func streams(t *testing.T, url string, n, tokens int) <-chan string {
	t.Helper()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	body, err := json.Marshal(map[string]any{"prompt": "Hello", "max_tokens": tokens, "stream": true, "ignore_eos": true})
	if err != nil {
		t.Fatal(err)
	}
	begun, results := make(chan error, n), make(chan string, n)
	for range n {
		go func() {
			resp, err := client.Post(url+"/v1/completions", "application/json", bytes.NewReader(body))
			if err != nil {
				begun <- err
				return
			}
			defer resp.Body.Close()
			_, err = io.ReadFull(resp.Body, make([]byte, 1))
			begun <- err
			rest, err := io.ReadAll(resp.Body)
			if err == nil && bytes.HasSuffix(bytes.TrimSpace(rest), []byte("[DONE]")) {
				results <- "whole"
				return
			}
			results <- fmt.Sprintf("cut after %d bytes (%v)", len(rest), err)
		}()
	}
	for range n {
		if err := <-begun; err != nil {
			t.Fatal(err)
		}
	}
	return results
}

func wantWhole(t *testing.T, results <-chan string, n int) {
	t.Helper()
	for range n {
		select {
		case got := <-results:
			if got != "whole" {
				t.Errorf("a client's answer was %s", got)
			}
		case <-time.After(patience):
			t.Fatal("a client has neither an answer nor an end")
		}
	}
}

// Everything that vLLM would find out after 15 to 47 s is found before it is started, and in no time.
func TestRealVLLMChecks(t *testing.T) {
	t.Parallel()
	cfg, cache := vllmConfig(t), WithCacheDir(t.TempDir())
	b, err := inspect(atLeisure(t), cfg, cache)
	if err != nil || b.Build < 10_000 || len(b.Flags.Defs) < 100 || !flagline.Has(b.Flags, "--max-model-len") {
		t.Fatalf("version %q, build %d, %d flags, %v", b.Version, b.Build, len(b.Flags.Defs), err)
	}
	in := func(name string) string { return filepath.Join(cfg.Model.ID, name) }
	weights := mustRead(t, in("model.safetensors"))
	check := func(what string, cause engine.Cause, parts ...string) {
		t.Helper()
		p, _ := newLaunch(t, cfg, cache)
		began := time.Now()
		err := p.Start(bounded(t))
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: it took %s", what, took)
		}
		if causeOf(err) != cause {
			t.Errorf("%s: %q: %v", what, causeOf(err), err)
		}
		wantText(t, err, parts...)
	}

	cfg.Flags = append(cfg.Flags, "--max-modl-len", "64")
	check("unknown flag", engine.CauseBadFlag, "--max-modl-len", "--max-model-len")
	cfg.Flags = append(cfg.Flags[:3], "--max-model-len", "99999")
	check("context", engine.CauseBadFlag, "99999", "2048")
	cfg.Flags = cfg.Flags[:3]

	if err := os.Truncate(in("model.safetensors"), int64(len(weights)/2)); err != nil {
		t.Fatal(err)
	}
	check("truncated weights", engine.CauseModelCorrupt, in("model.safetensors"), "is cut short")
	if err := os.WriteFile(in("model.safetensors"), weights, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(in("config.json"), in("config")); err != nil {
		t.Fatal(err)
	}
	check("no configuration", engine.CauseModelMissing, in("config.json"))
	if err := os.Rename(in("config"), in("config.json")); err != nil {
		t.Fatal(err)
	}
	stranger, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", cfg.Port))
	if err != nil {
		t.Fatal(err)
	}
	check("port", engine.CausePortInUse, "is not free")
	if err := stranger.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Model.ID = filepath.Join(cfg.Dir, "absent")
	check("no model", engine.CauseModelMissing, cfg.Model.ID)
}

// The whole way to ready, and the death of the API server, which leaves the rest of vLLM alive (vLLM #55510). It runs
// with bfloat16, because on a CPU that announces AMX to a machine that forbids it, the first token kills such a vLLM,
// whose /health has said 200 until then: there it must be no readiness but a failed start.
func TestRealVLLMLife(t *testing.T) {
	t.Parallel()
	cfg := vllmConfig(t)
	cfg.Flags[2] = "bfloat16"
	p, j := started(t, cfg)
	waited := make(chan error, 1)
	ctx := atLeisure(t)
	go func() {
		_, err := p.WaitReady(ctx)
		waited <- err
	}()
	eventually(t, "it is heard to load", func() bool { return p.Status().Heard != "" })
	if status := p.Status(); status.State != StateStarting || !strings.Contains(status.Heard, "refused") {
		t.Errorf("while it loads: %+v", status)
	}
	err := <-waited
	if causeOf(err) == engine.CauseCannotAnswer {
		t.Logf("this CPU has no working bfloat16, and the proof found it: %v", err)
		nothingLeft(t, p)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	h, err := ReadHandoff(p.run.files.Handoff())
	if err != nil || h.Engine != "vllm" || h.Answer != answerOK || h.Model.Path != cfg.Model.ID || h.Process == nil ||
		!strings.HasPrefix(p.run.rec.Version, h.EngineVersion) {
		t.Errorf("handoff %+v (%v)", h, err)
	}
	if notes := j.notes(); notes != "" {
		t.Errorf("notes: %s", notes)
	}
	if p.run.rec.Launch.Spec.Metrics == nil || p.run.rec.Launch.Spec.Gauges == nil {
		t.Error("neither metrics nor gauges")
	}

	pids, shm := vllmTree(t, p.Status().LaunchID)
	if pids[engineCore] == 0 || pids[vllmWorker] == 0 || len(pids) < 3 || len(shm) == 0 {
		t.Errorf("tree %v with %v", pids, shm)
	}
	if err := p.run.host().Leader.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, p)
	var exit *ExitError
	if !errors.As(p.Err(), &exit) || exit.Signal != "killed" || !exit.Ready {
		t.Errorf("%T: %v", p.Err(), p.Err())
	}
	vllmGone(t, p, pids, shm)
	t.Attr("engine", h.Engine) // for the table of what was run
	t.Attr("version", h.EngineVersion)
	t.Attr("proves", "start,ready,token,metrics,crash")
}

// vLLM itself answers what is in flight when it is told to: no client is cut, though nothing drains before SIGTERM.
func TestRealVLLMShutdownTimeout(t *testing.T) {
	t.Parallel()
	cfg := vllmConfig(t)
	cfg.Flags = append(cfg.Flags, "--shutdown-timeout", "20")
	cfg.Drain.Timeout = new(settings.Duration)
	p, _ := vllmReady(t, cfg)
	pids, shm := vllmTree(t, p.Status().LaunchID)
	const clients = 8
	results := streams(t, p.handoff.URL, clients, 1000)
	began := time.Now()
	if err := p.Stop(atLeisure(t)); err != nil {
		t.Error(err)
	}
	t.Logf("stopped after %s", time.Since(began).Round(time.Millisecond))
	wantWhole(t, results, clients)
	if rec, err := readRecord(p.run.files); err != nil || rec.Exit != "code 0" {
		t.Errorf("exit %q (%v)", rec.Exit, err)
	}
	vllmGone(t, p, pids, shm)
}

// While it imports, vLLM dies of SIGTERM. From the birth of its EngineCore until it is ready it ignores it.
func TestRealVLLMStopWhileLoading(t *testing.T) {
	t.Parallel()
	p, _ := started(t, vllmConfig(t))
	if err := p.Stop(atLeisure(t)); err != nil {
		t.Errorf("at the beginning: %v", err)
	}
	nothingLeft(t, p)

	p, _ = started(t, vllmConfig(t))
	var pids map[string]int
	var shm []string
	limit := atLeisure(t)
	for pids[engineCore] == 0 {
		select {
		case <-p.Done():
			t.Fatal(p.Err())
		case <-limit.Done():
			t.Fatalf("no EngineCore: %v", pids)
		case <-time.After(10 * time.Millisecond):
			pids, shm = vllmTree(t, p.Status().LaunchID)
		}
	}
	began := time.Now()
	err := p.Stop(atLeisure(t))
	if err != nil && !errors.Is(err, ErrKilled) {
		t.Error(err)
	}
	took := time.Since(began)
	t.Logf("stopped after %s: %v", took.Round(time.Millisecond), err)
	if took > 7*time.Second {
		t.Errorf("it took %s", took)
	}
	vllmGone(t, p, pids, shm)
}

// What cannot be known before is told by its own words.
func TestRealVLLMNoRoom(t *testing.T) {
	t.Parallel()
	cfg := vllmConfig(t)
	cfg.Env["VLLM_CPU_KVCACHE_SPACE"] = settings.EnvValue{Value: "200"}
	p, _ := started(t, cfg)
	_, err := p.WaitReady(atLeisure(t))
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Cause != engine.CauseOOMHost || exit.Code != 1 {
		t.Errorf("%T: %v", err, err)
	}
	nothingLeft(t, p)
}
