package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// realFolder is a folder with a model that the real engine can load, and that engine in PATH as env says.
func realFolder(t *testing.T) (dir, env string) {
	t.Helper()
	server := os.Getenv("ENGINE_PROVISIONER_LLAMA_SERVER")
	if server == "" {
		t.Skip("needs a real llama-server: set ENGINE_PROVISIONER_LLAMA_SERVER, or run make test")
	}
	dir = t.TempDir()
	if err := ggufgen.WriteFile(filepath.Join(dir, "tiny.gguf"), ggufgen.Params{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopDetached(t, dir) })
	return dir, "PATH=" + filepath.Dir(server) + ":" + os.Getenv("PATH")
}

// TestRealModelWithoutFile runs a model by the real engine, asks it, and interrupts the run.
func TestRealModelWithoutFile(t *testing.T) {
	t.Parallel()
	dir, env := realFolder(t)
	port := strconv.Itoa(enginetest.FreePort(t, 1))
	cmd := command(t, []string{env}, "run", "tiny.gguf", "--port", port, "--gpu", "none", "--", "-c", "256", "--threads", "1")
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if want := "tiny/r0 ready http://127.0.0.1:" + port + " (OpenAI API: http://127.0.0.1:" + port + "/v1)\n"; line != want {
		t.Fatalf("%q, %v; want %q", line, err, want)
	}
	all, err := fleet.Statuses(filepath.Join(dir, ".runtime"))
	if err != nil || len(all) != 1 || all[0].PID == 0 {
		t.Fatalf("%+v, %v", all, err)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(all[0].URL+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"Hello","max_tokens":4}`))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Usage struct {
			Tokens int `json:"completion_tokens"`
		} `json:"usage"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Usage.Tokens == 0 {
		t.Errorf("%+v, %v", answer, err)
	}
	resp.Body.Close()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if status := exitOf(t, cmd); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if stat, err := procfs.ReadStat(all[0].PID); err == nil {
		t.Errorf("the engine is left: %+v", stat)
	}
	handoffs, err := filepath.Glob(filepath.Join(dir, ".runtime/engines/*.json"))
	if err != nil || len(handoffs) > 0 {
		t.Errorf("handoffs are left: %q, %v", handoffs, err)
	}
}

// TestRealFirstFile writes a first file, which the real engine runs as it is.
func TestRealFirstFile(t *testing.T) {
	t.Parallel()
	dir, env := realFolder(t)
	port := strconv.Itoa(enginetest.FreePort(t, 1))
	for _, args := range [][]string{{"init", "tiny.gguf", "--port", port, "--gpu", "none", "--", "-c", "256"}, {"--detach"}, {"stop"}} {
		cmd := command(t, []string{env}, args...)
		cmd.Dir = dir
		if out, err := cmd.Output(); err != nil {
			t.Fatalf("%q: %v, %s", args, err, out)
		}
	}
}
