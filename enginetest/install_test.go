package enginetest

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// command is an engine that is not started yet, and where it will listen.
func command(t *testing.T, b Behavior, args ...string) (*exec.Cmd, string) {
	t.Helper()
	port := FreePort(t, 1)
	cmd := exec.Command(Install(t, b), append(args, "--port", strconv.Itoa(port))...)
	return cmd, "http://" + address(port)
}

func TestArgvSurvives(t *testing.T) {
	t.Parallel()
	args := []string{"--alias", `it's "a" $HOME \ *`, "", "--unknown", "two words", "--log_disable"}
	p := start(t, Behavior{LogText: "it's '' here\n"}, args...).waitReady(t)
	r := Inspect(t, p.url)
	if got := r.Argv[len(r.Argv)-len(args):]; !slices.Equal(got, args) {
		t.Errorf("argv %q, want %q", got, args)
	}
	if r.PID != p.cmd.Process.Pid {
		t.Errorf("the engine is process %d, started was %d", r.PID, p.cmd.Process.Pid)
	}
	if !strings.Contains(p.log.String(), "it's '' here\n") {
		t.Errorf("the behaviour did not survive the shell:\n%s", p.log.String())
	}
}

func TestEnvTwins(t *testing.T) {
	t.Parallel()
	p := startEnv(t, Behavior{}, []string{"LLAMA_ARG_N_PARALLEL=7", "LLAMA_ARG_ENDPOINT_METRICS=1"}).waitReady(t)
	if _, body := p.get("/props"); !strings.Contains(body, `"total_slots":7`) {
		t.Errorf("props: %s", body)
	}
	if code, _ := p.get("/metrics"); code != 200 {
		t.Errorf("metrics: %d", code)
	}
	bad := startEnv(t, Behavior{}, []string{"LLAMA_ARG_N_PARALLEL=x"})
	if got := bad.wait(t); got != "exit status 1" {
		t.Errorf("ended with %q", got)
	}
	if want := `error while handling environment variable "LLAMA_ARG_N_PARALLEL": stoi`; !strings.Contains(bad.log.String(), want) {
		t.Errorf("log %q, want %q", bad.log.String(), want)
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		flag           string
		b              Behavior
		stdout, stderr string
	}{
		{"--version", Behavior{}, "", llamacpp{}.about().asked},
		{"--version", Behavior{VersionText: "version: 7951 (22cae8321)\n"}, "", "version: 7951 (22cae8321)\n"},
		{"--help", Behavior{}, llamaHelp, ""},
		{"-h", Behavior{HelpText: "none\n"}, "none\n", ""},
	} {
		var stdout, stderr strings.Builder
		cmd := exec.Command(Install(t, tc.b), tc.flag)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Errorf("%s: %v", tc.flag, err)
		}
		if stdout.String() != tc.stdout || stderr.String() != tc.stderr {
			t.Errorf("%s: stdout %q, stderr %q", tc.flag, stdout.String(), stderr.String())
		}
	}
}

func TestParseHelp(t *testing.T) {
	t.Parallel()
	defs := parseHelp(llamaHelp)
	if len(defs) < 40 {
		t.Errorf("%d entries, want at least 40", len(defs))
	}
	for _, want := range []flagDef{
		{[]string{"-ngl", "--gpu-layers", "--n-gpu-layers"}, true, false, "LLAMA_ARG_N_GPU_LAYERS"},
		{[]string{"-kvo", "--kv-offload", "-nkvo", "--no-kv-offload"}, false, false, "LLAMA_ARG_KV_OFFLOAD"},
		{[]string{"--metrics"}, false, false, "LLAMA_ARG_ENDPOINT_METRICS"},
		{[]string{"-h", "--help", "--usage"}, false, false, ""},
		{[]string{"-hf", "-hfr", "--hf-repo"}, true, false, "LLAMA_ARG_HF_REPO"},
		{[]string{"-fa", "--flash-attn"}, true, false, "LLAMA_ARG_FLASH_ATTN"},
	} {
		if !slices.ContainsFunc(defs, func(d *flagDef) bool {
			return slices.Equal(d.names, want.names) && d.value == want.value && d.env == want.env
		}) {
			t.Errorf("%v is not among the entries", want)
		}
	}
}

func TestInstallAtReplaces(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "llama-server")
	for _, want := range []string{"one\n", "two\n"} {
		if err := InstallAt(path, exe, Behavior{VersionText: want}); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(path, "--version").CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("got %q, %v, want %q", out, err, want)
		}
	}
	if err := InstallAt(filepath.Join(path, "below"), exe, Behavior{}); err == nil {
		t.Error("no error for a path below a file")
	}
}

// Many at once: nobody gets "text file busy", and no port is given twice.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	owner := map[int]int{}
	var wg sync.WaitGroup
	for i := range 50 {
		const n = 12
		port := FreePort(t, n)
		wg.Go(func() {
			if out, err := exec.Command(Install(t, Behavior{}), "--version").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			mu.Lock()
			defer mu.Unlock()
			for p := port; p < port+n; p++ {
				if other, taken := owner[p]; taken {
					t.Errorf("port %d was given to %d and %d", p, other, i)
				}
				owner[p] = i
				if p >= min(20000, ephemeralLow()) {
					t.Errorf("port %d is in the kernel's own range, or that of TGI's second ports", p)
				}
			}
		})
	}
	wg.Wait()
}

// Reserved by one, free for the next when it is released, and no file is left of it.
func TestReserve(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ports")
	release, err := reserve(dir, 20000, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, start := range []int{20000, 20000 + portBlock, 20000 - portBlock} {
		if _, err := reserve(dir, start, 2); !errors.Is(err, errTaken) {
			t.Errorf("ports from %d on are given twice: %v", start, err)
		}
	}
	other, err := reserve(dir, 30000, 1)
	if err != nil {
		t.Fatal(err)
	}
	release()
	release, err = reserve(dir, 20000, 2)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	release()
	other()
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
}

// However many come and go at once, one at a time has the ports.
func TestReserveIsExclusive(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ports")
	var owners atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				release, err := reserve(dir, 20000, 1)
				if errors.Is(err, errTaken) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := owners.Add(1); n != 1 {
					t.Errorf("%d have the ports", n)
				}
				runtime.Gosched()
				owners.Add(-1)
				release()
			}
		})
	}
	wg.Wait()
}

// BenchmarkStart measures from the start of the process to its first 200.
func BenchmarkStart(b *testing.B) {
	path, port := Install(b, Behavior{}), strconv.Itoa(FreePort(b, 1))
	for b.Loop() {
		cmd := exec.Command(path, "--port", port)
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		p := &process{url: "http://127.0.0.1:" + port}
		for code := 0; code != 200; code, _ = p.get("/health") {
			time.Sleep(200 * time.Microsecond)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
