// Package examples_test loads all the pools files of this folder and runs all its programs.
package examples_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/settings"
)

func TestMain(m *testing.M) {
	_ = os.Setenv("HF_HUB_OFFLINE", "1") // no test asks the real hub
	os.Exit(enginetest.Run(m))
}

func TestPoolsFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 9 {
		t.Fatalf("pools files: %v (%v)", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		const schema = "# yaml-language-server: $schema=https://"
		if !strings.HasPrefix(string(text), schema) || !strings.Contains(string(text), "\n# Change first: ") {
			t.Errorf("%s lacks the line of the schema, for editors, or does not say what to change first", file)
		}
		config, err := provisioner.LoadConfig(file)
		if err != nil {
			t.Error(err)
			continue
		}
		replicas, err := config.Replicas("")
		if err != nil || len(replicas) == 0 {
			t.Errorf("%s: %d replicas (%v)", file, len(replicas), err)
		}
		for _, r := range replicas {
			if _, err := provisioner.New(r); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestPlans holds what the pools files for other servers would run. The servers themselves need not be there.
func TestPlans(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(dir, "model")
	if err := os.WriteFile(model, []byte("model"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ollama", "tritonserver", "llama-server", "python3"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for file, want := range map[string]string{
		"ollama.yaml": "serve",
		"triton.yaml": "--model-repository=" + model + " --http-address=127.0.0.1 --http-port=8000" +
			" --allow-grpc=false --allow-metrics=false --exit-timeout-secs=30",
		"llamafile.yaml":           "./chat.llamafile --server --host 127.0.0.1 --port 8081 --ctx-size 4096",
		"llama-server-custom.yaml": "--model " + model + " --host 127.0.0.1 --port 8081 --metrics --parallel 1",
		"python.yaml":              "python/serve.py --model=" + model + " --host 127.0.0.1 --port 8081 --cache {tmpdir}/cache --verbose",
	} {
		cfg := replica(t, file)
		cfg.GPU = engine.GPUNone // as on the machine of this test
		if strings.HasPrefix(cfg.Model.ID, "local:") {
			cfg.Model.ID = "local:" + model
		}
		plan, err := node.Plan(t.Context(), cfg, provisioner.WithCacheDir(t.TempDir()))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if got := strings.Join(plan.Args(), " "); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", file, got, want)
		}
	}
}

// replica is the one of a pools file, with a state directory of its own.
func replica(t *testing.T, file string) provisioner.ProvisionConfig {
	t.Helper()
	config, err := provisioner.LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	replicas, err := config.Replicas("")
	if err != nil {
		t.Fatal(err)
	}
	replicas[0].StateDir = t.TempDir()
	return replicas[0]
}

// TestPython runs a server that nothing is known of but its pools file.
func TestPython(t *testing.T) {
	t.Parallel()
	needPython(t)
	cfg := replica(t, "python.yaml")
	cfg.Port = enginetest.FreePort(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	engine, err := provisioner.New(cfg, provisioner.WithCacheDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Stop(context.Background()) })
	if err := engine.Start(ctx); err != nil {
		t.Fatal(err)
	}
	h, err := engine.WaitReady(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if h.Engine != "custom" || h.EngineVersion != "1.2.3" || h.Answer != "ok" || filepath.Base(h.Model.Path) != "serve.py" {
		t.Errorf("handoff %+v", h)
	}
	resp, err := http.Post(h.URL+"/v1/completions", "application/json", strings.NewReader(`{"prompt": "hello"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); !strings.Contains(string(body), `"text": "hello"`) {
		t.Errorf("the answer is %q (%v)", body, err)
	}
	if err := engine.Stop(ctx); err != nil {
		t.Error(err)
	}
	wantNoHandoffs(t, cfg.StateDir)
}

func needPython(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("python3 is not there, and it is the engine of this example")
	}
}

// TestPlansOfEngines plans what the examples of engines in Python and Rust would run, on a machine that has none of them:
// the executables are scripts that only say who they are, and the models are not looked at.
func TestPlansOfEngines(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "engine")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho text-generation-launcher 3.3.5\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]string{
		"vllm.yaml": {
			"serve Qwen/Qwen3-0.6B --host 127.0.0.1 --port 8081 --served-model-name qwen3 --max-model-len 32768 --compilation-config.cudagraph_mode FULL_AND_PIECEWISE",
			"serve Qwen/Qwen3-0.6B --host 127.0.0.1 --port 8091 --served-model-name Qwen/Qwen3-0.6B",
		},
		"sglang.yaml": {
			"serve --model-path Qwen/Qwen3-0.6B --host 127.0.0.1 --port 30000 --enable-metrics --served-model-name Qwen/Qwen3-0.6B --device cpu " +
				"--context-length 32768 --mem-fraction-static=0.85",
		},
		"tgi.yaml": {
			"--model-id Qwen/Qwen3-0.6B --hostname 127.0.0.1 --port 8081 --shard-uds-path {tmpdir}/shard --master-port 21697 --prometheus-port 28081 --max-total-tokens 16384",
			"--model-id Qwen/Qwen3-0.6B --hostname 127.0.0.1 --port 8082 --shard-uds-path {tmpdir}/shard --master-port 21698 --prometheus-port 28082 --max-total-tokens 16384",
		},
	} {
		config, err := provisioner.LoadConfig(file)
		if err != nil {
			t.Error(err)
			continue
		}
		replicas, err := config.Replicas("")
		if err != nil || len(replicas) != len(want) {
			t.Errorf("%s: %d replicas (%v)", file, len(replicas), err)
			continue
		}
		for i, r := range replicas {
			r.StateDir, r.GPU, r.Devices = t.TempDir(), engine.GPUOptional, []settings.Device{"GPU-of-no-machine"}
			r.Model.ID = "hf:Qwen/Qwen3-0.6B"
			r.Provisioning.Binary = &settings.Binary{Path: script}
			plan, err := node.Plan(t.Context(), r, provisioner.WithCacheDir(t.TempDir()))
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			if got := strings.Join(plan.Args(), " "); got != want[i] {
				t.Errorf("%s:\ngot  %s\nwant %s", file, got, want[i])
			}
		}
	}
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	// As "go run" would build them, but once.
	for _, args := range []string{"-o " + bin + " ./basic ./poolmanager", "-C customengine -o " + bin + " ."} { // a module of its own
		if out, err := exec.Command("go", append([]string{"build"}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}

	t.Run("basic", func(t *testing.T) {
		t.Parallel()
		pools, state := poolsFile(t, "basic.yaml", enginetest.Behavior{LoadTime: 50 * time.Millisecond})
		p := start(t, filepath.Join(bin, "basic"), pools)
		url := p.read("http://")
		resp, err := http.Get(url + "/health")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("health: %s", resp.Status)
		}
		p.interrupt()
		wantNoHandoffs(t, state)
	})
	t.Run("basic with a dying engine", func(t *testing.T) {
		t.Parallel()
		pools, state := poolsFile(t, "basic.yaml", enginetest.Behavior{
			DieLoading: &enginetest.Death{Code: 1, Stderr: "error: invalid argument: --frobnicate"},
		})
		p := start(t, filepath.Join(bin, "basic"), pools)
		p.fails("default/r0: engine exited with code 1 while loading", "[bad_flag]")
		wantNoHandoffs(t, state)
	})
	t.Run("poolmanager", func(t *testing.T) {
		t.Parallel()
		pools, state := poolsFile(t, "cpu.yaml", enginetest.Behavior{})
		p := start(t, filepath.Join(bin, "poolmanager"), pools)
		p.read("ready small-r", "ready small-r")
		killed, err := provisioner.ReadHandoff(filepath.Join(state, "engines", "small-r1.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(killed.Process.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if line := p.read("ready small-r1.json"); !strings.HasSuffix(line, " launch 2") {
			t.Errorf("after a crash: %q", line)
		}
		// It is killed, and the next one goes on with the engines that it finds.
		alive, err := provisioner.ReadHandoff(filepath.Join(state, "engines", "small-r0.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := p.wait(); err == nil {
			t.Error("a killed program ended well")
		}
		next := start(t, filepath.Join(bin, "poolmanager"), pools)
		next.read("ready small-r", "ready small-r")
		if now, err := provisioner.ReadHandoff(filepath.Join(state, "engines", "small-r0.json")); err != nil || now.Process.PID != alive.Process.PID {
			t.Errorf("it was not adopted: %+v, %v", now.Process, err)
		}
		next.interrupt()
		wantNoHandoffs(t, state)
		if told := p.told.String(); !strings.Contains(told, "small/r1: engine exited by signal: killed after it was ready") {
			t.Errorf("the crash was not told:\n%s", told)
		}
	})
	t.Run("poolmanager without hope", func(t *testing.T) {
		t.Parallel()
		pools, state := poolsFile(t, "cpu.yaml", enginetest.Behavior{})
		if err := os.Remove(filepath.Join(filepath.Dir(pools), "model.gguf")); err != nil {
			t.Fatal(err)
		}
		p := start(t, filepath.Join(bin, "poolmanager"), pools)
		p.fails("small/r0: cannot start", "small/r1: cannot start", "[model_missing]")
		wantNoHandoffs(t, state)
	})
	t.Run("customengine", func(t *testing.T) {
		t.Parallel()
		needPython(t)
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "hello.txt"), []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := start(t, filepath.Join(bin, "customengine"), folder, fmt.Sprint(enginetest.FreePort(t, 1)))
		url, _, _ := strings.Cut(p.read("by Python 3."), " ")
		resp, err := http.Get(url + "/hello.txt")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); string(body) != "hello" {
			t.Errorf("the file server gave %q (%v)", body, err)
		}
		p.interrupt()
		wantNoHandoffs(t, filepath.Join(p.cmd.Dir, ".runtime"))
	})
}

// poolsFile is one of the pools files on this machine: its first pool, with a fake engine, its model and free ports.
func poolsFile(t *testing.T, name string, b enginetest.Behavior) (path, state string) {
	t.Helper()
	config, err := provisioner.LoadConfig(name)
	if err != nil {
		t.Fatal(err)
	}
	pool := config.Pools[0]
	dir := t.TempDir()
	model := filepath.Join(dir, "model.gguf")
	if err := os.WriteFile(model, []byte(enginetest.GGUF), 0o600); err != nil {
		t.Fatal(err)
	}
	state = filepath.Join(dir, "state")
	text := fmt.Sprintf(`{"state_dir": %q, "pools": [{"id": %q, "engine": %q, "replicas": %d, "port": %d, "gpu": "none",`+
		` "model": {"id": %q}, "provisioning": {"binary": {"path": %q}}}]}`,
		state, pool.ID, pool.Engine, max(1, pool.Replicas), enginetest.FreePort(t, max(1, pool.Replicas)), model, enginetest.Install(t, b))
	path = filepath.Join(dir, "pools.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, state
}

// program is a running example.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *bufio.Scanner
	stderr strings.Builder
	told   strings.Builder // what was read of stdout
}

func start(t *testing.T, exe string, args ...string) *program {
	t.Helper()
	// The limit ends only tests that fail anyway.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	p := &program{t: t, cmd: exec.CommandContext(ctx, exe, args...)}
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir(), "XDG_STATE_HOME="+t.TempDir())
	p.cmd.Stderr = &p.stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) } // so that its engine ends, too
	p.cmd.WaitDelay = 10 * time.Second
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil { // the test has failed before its end
			cancel()
			_ = p.cmd.Wait()
			t.Logf("stdout:\n%s\nstderr:\n%s", p.told.String(), p.stderr.String())
		}
	})
	return p
}

// read reads until there was a line with each of the texts, in order, and returns the last of them.
func (p *program) read(texts ...string) string {
	p.t.Helper()
	line := ""
	for _, text := range texts {
		for found := false; !found; found = strings.Contains(line, text) {
			if !p.stdout.Scan() {
				p.t.Fatalf("the output ended before a line with %q", text)
			}
			line = p.stdout.Text()
			fmt.Fprintln(&p.told, line)
		}
	}
	return line
}

// interrupt presses Ctrl-C and expects that the program ends well.
func (p *program) interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	if err := p.wait(); err != nil {
		p.t.Errorf("%v\n%s", err, p.stderr.String())
	}
}

// fails expects that the program fails by itself and says all of the texts on stderr.
func (p *program) fails(texts ...string) {
	p.t.Helper()
	if err := p.wait(); err == nil {
		p.t.Error("it did not fail")
	}
	for _, text := range texts {
		if !strings.Contains(p.stderr.String(), text) {
			p.t.Errorf("stderr lacks %q:\n%s", text, p.stderr.String())
		}
	}
}

func (p *program) wait() error {
	for p.stdout.Scan() {
		fmt.Fprintln(&p.told, p.stdout.Text())
	}
	return p.cmd.Wait()
}

// wantNoHandoffs fails the test when a handoff file has outlived its replica.
func wantNoHandoffs(t *testing.T, state string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(state, "engines", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("handoff files left: %v (%v)", left, err)
	}
}
