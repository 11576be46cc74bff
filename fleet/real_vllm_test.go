package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
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
func vllmConfig(t testing.TB) provisioner.ProvisionConfig {
	t.Helper()
	program, dir := vllmProgram(t), t.TempDir()
	if err := hfgen.Write(filepath.Join(dir, "tiny"), hfgen.Params{}); err != nil {
		t.Fatal(err)
	}
	return vllmReplica(program, dir, "r0", enginetest.FreePort(t, 1))
}

func vllmReplica(program, dir, replica string, port int) provisioner.ProvisionConfig {
	return provisioner.ProvisionConfig{
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

// vllmManagerFlag makes the test binary a manager of two replicas: folder and first port follow.
const vllmManagerFlag = "-vllm-manager"

func vllmPair(program, dir string, port int) []provisioner.ProvisionConfig {
	return []provisioner.ProvisionConfig{vllmReplica(program, dir, "r0", port), vllmReplica(program, dir, "r1", port+1)}
}

// vllmMain is the life of that manager, if this process is it.
func vllmMain() {
	if len(os.Args) != 4 || os.Args[1] != vllmManagerFlag {
		return
	}
	err := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // a killed test leaves nothing for ever
		defer cancel()
		port, err := strconv.Atoi(os.Args[3])
		if err != nil {
			return err
		}
		if _, err := opened(ctx, vllmPair(os.Getenv("ENGINE_PROVISIONER_VLLM"), os.Args[2], port)); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}()
	fmt.Fprintln(os.Stderr, "the manager ended by itself:", err)
	os.Exit(1)
}

// Two replicas survive the death of their manager and are adopted. One loses its Worker, whereupon vLLM ends with exit
// status 0: that is a failure, and it is restarted. At last one is stopped idle, and the other with clients that get
// their whole answers.
func TestRealVLLMSupervised(t *testing.T) {
	t.Parallel()
	cfg := vllmConfig(t)
	port := enginetest.FreePort(t, 2)
	cfgs := vllmPair(cfg.Provisioning.Binary.Path, cfg.Dir, port)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	manager := exec.Command(exe, vllmManagerFlag, cfg.Dir, itoa(port))
	manager.Stderr = os.Stderr
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	var handoffs [2]provisioner.Handoff
	limit := atLeisure(t)
	for i, c := range cfgs {
		files := filesAt(c)
		for {
			var err error
			if handoffs[i], err = provisioner.ReadHandoff(files.Handoff()); err == nil {
				break
			}
			select {
			case <-limit.Done():
				_ = manager.Process.Kill()
				t.Fatalf("replica %s is not ready: %v", c.Name(), err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	if err := manager.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = manager.Wait()

	began := time.Now()
	s, j := supervised(t, cfgs)
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("adopted after %s", took)
	}
	before := s.Status()
	for i, status := range before {
		if status.PID != handoffs[i].Process.PID || status.URL != fmt.Sprintf("http://127.0.0.1:%d", port+i) {
			t.Errorf("adopted: %+v, handed off: %+v", status, handoffs[i])
		}
	}

	pids, shm := vllmTree(t, before[0].LaunchID)
	if err := syscall.Kill(pids[vllmWorker], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for after := before; after[0].State != provisioner.StateReady || after[0].LaunchID == before[0].LaunchID; after = s.Status() {
		select {
		case <-limit.Done():
			t.Fatalf("not restarted: %+v", after[0])
		case <-time.After(20 * time.Millisecond):
		}
	}
	for _, path := range shm {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	j.mu.Lock()
	failed := slices.ContainsFunc(j.events, func(e provisioner.Event) bool {
		return e.Kind == provisioner.EventState && e.State == provisioner.StateFailed && e.ExitCode != nil && *e.ExitCode == 0
	})
	j.mu.Unlock()
	if !failed {
		t.Errorf("no failure with exit code 0 among %v", j.states())
	}
	after := s.Status()[1]
	if after.LaunchID != before[1].LaunchID || after.State != provisioner.StateReady {
		t.Errorf("the other replica: %+v", after)
	}

	const clients = 8
	results := streams(t, before[1].URL, clients, 1000)
	began = time.Now()
	if err := s.Shutdown(atLeisure(t)); err != nil {
		t.Error(err)
	}
	t.Logf("stopped after %s", time.Since(began).Round(time.Millisecond))
	wantWhole(t, results, clients)
	t.Attr("engine", handoffs[0].Engine) // for the table of what was run
	t.Attr("version", handoffs[0].EngineVersion)
	t.Attr("proves", "start,ready,drain,stop,adopt")
}
