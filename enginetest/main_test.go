package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Run(m)) }

// limit is how long a test waits for what must happen. It is long, as the machine may be busy.
const limit = 2 * time.Minute

// process is a fake engine that a test started.
type process struct {
	url    string
	cmd    *exec.Cmd
	log    lockedBuffer
	exited chan struct{}
}

// start runs an engine that behaves like b on a free port, with extra arguments.
func start(t *testing.T, b Behavior, args ...string) *process {
	t.Helper()
	return startEnv(t, b, nil, args...)
}

func startEnv(t *testing.T, b Behavior, env []string, args ...string) *process {
	t.Helper()
	port := strconv.Itoa(FreePort(t, 1))
	p := &process{url: "http://127.0.0.1:" + port, exited: make(chan struct{})}
	p.cmd = exec.Command(Install(t, b), append(launchArgs(b.Engine, "/models/m.gguf", port), args...)...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.log
	// A child that holds the engine's stderr would keep Wait waiting for the pipe. It is long, as a busy machine takes
	// its time to copy the last words of an engine that has ended.
	p.cmd.WaitDelay = limit
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.exited) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
	})
	return p
}

// launchArgs is how an engine is told its model and port.
func launchArgs(p Profile, model, port string) []string {
	switch p {
	case VLLM:
		return []string{"serve", model, "--host", "127.0.0.1", "--port", port}
	case SGLang:
		return []string{"serve", "--model-path", model, "--port", port, "--enable-metrics"}
	case TGI:
		return []string{"--model-id", model, "--hostname", "127.0.0.1", "--port", port}
	}
	return []string{"--model", model, "--port", port}
}

// get returns the status and the body of path, status 0 when there is no answer.
func (p *process) get(path string, headers ...string) (int, string) {
	return p.do(http.MethodGet, path, "", headers...)
}

func (p *process) do(method, path, body string, headers ...string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(data)
}

// eventually waits until ok holds.
func (p *process) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen; the engine's log:\n%s", what, p.log.String())
		}
	}
}

// waitReady waits for 200 on /health.
func (p *process) waitReady(t *testing.T) *process {
	t.Helper()
	p.eventually(t, "readiness", func() bool { code, _ := p.get("/health"); return code == http.StatusOK })
	return p
}

// waitBound waits until the port takes connections.
func (p *process) waitBound(t *testing.T) *process {
	t.Helper()
	p.eventually(t, "the bind", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return p
}

// wait waits for the exit and returns "exit status 1", "signal: terminated" and the like.
func (p *process) wait(t *testing.T) string {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.String()
	case <-time.After(limit):
		t.Fatalf("the engine did not exit; its log:\n%s", p.log.String())
		return ""
	}
}

func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// alive says whether pid is there and not a zombie.
func alive(pid int) bool {
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) && commandLines()[pid] != ""
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
