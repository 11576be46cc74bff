package ggufgen

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
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWriteIsDeterministic(t *testing.T) {
	t.Parallel()
	write := func(p Params) []byte {
		var b bytes.Buffer
		if err := Write(&b, p); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	first := write(Params{})
	if !bytes.HasPrefix(first, []byte("GGUF\x03\x00\x00\x00")) {
		t.Errorf("the file begins with %q", first[:8])
	}
	if !bytes.Equal(first, write(Params{Width: 64, Layers: 2, Context: 2048})) {
		t.Error("the defaults spelled out give another file")
	}
	if other := write(Params{Seed: 1}); bytes.Equal(first, other) || len(first) != len(other) {
		t.Error("another seed must give other weights in a file of the same size")
	}
}

func TestWriteFillsTheTensors(t *testing.T) {
	t.Parallel()
	p := Params{Width: 96, Layers: 3, Context: 512}
	var b bytes.Buffer
	if err := Write(&b, p); err != nil {
		t.Fatal(err)
	}
	tensors := p.tensors()
	size := len(header(p.metadata(), tensors))
	if size%32 != 0 {
		t.Errorf("the data begin at %d, which is not aligned to 32 bytes", size)
	}
	for _, tensor := range tensors {
		size += 4 * tensor.values()
	}
	if b.Len() != size {
		t.Errorf("the file has %d bytes, want %d", b.Len(), size)
	}
}

func TestWriteRefusesBadParams(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		params Params
		want   string
	}{
		{Params{Width: 65}, "cannot write a model: width 65 is not a positive multiple of 32"},
		{Params{Width: -32}, "cannot write a model: width -32 is not a positive multiple of 32"},
		{Params{Experts: -1}, "cannot write a model: -1 experts; they cannot be negative"},
		{Params{Layers: -1}, "cannot write a model: -1 layers, 2048 tokens of context; neither can be negative"},
	} {
		if err := Write(io.Discard, test.params); err == nil || err.Error() != test.want {
			t.Errorf("Write(%+v) = %v, want %s", test.params, err, test.want)
		}
	}
}

func TestWriteFileLeavesNothingOnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := WriteFile(filepath.Join(dir, "m.gguf"), Params{Width: 1}); err == nil {
		t.Error("a bad width was accepted")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v is left behind", left)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestWriteReportsTheWriter(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	for _, p := range []Params{{}, {Width: 1024, Layers: 1}} { // fails in Flush, and while writing
		if err := Write(failingWriter{full}, p); !errors.Is(err, full) {
			t.Errorf("Write(%+v) = %v, want %v", p, err, full)
		}
	}
}

// TestRealServerAnswers is why this package exists: a real llama-server loads the model and produces a token.
func TestRealServerAnswers(t *testing.T) {
	t.Parallel()
	server := realServer(t)
	for name, p := range map[string]Params{"dense": {}, "mixture of experts": {Experts: 4}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers(t, server, p)
		})
	}
}

func answers(t *testing.T, server string, p Params) {
	dir := t.TempDir()
	model := filepath.Join(dir, "tiny.gguf")
	if err := WriteFile(model, p); err != nil {
		t.Fatal(err)
	}
	// A socket in a folder of its own cannot collide with anything, as a port could. Its path may have 107 bytes.
	socketDir, err := os.MkdirTemp("", "ggufgen")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(socketDir) })
	socket := filepath.Join(socketDir, "s.sock")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(ctx, server, "--model", model, "--host", socket, "--parallel", "1", "--n-gpu-layers", "0")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		cancel()
		<-exited
	})

	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	for {
		if status, _, err := request(ctx, client, http.MethodGet, "/health", ""); err == nil && status == http.StatusOK {
			break
		}
		select {
		case <-exited:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("llama-server exited while loading:\n%s", text)
		case <-ctx.Done():
			t.Fatal("llama-server is not ready after a minute")
		case <-time.After(10 * time.Millisecond):
		}
	}
	status, body, err := request(ctx, client, http.MethodPost, "/completion", `{"prompt":"Hello","n_predict":1}`)
	if err != nil || status != http.StatusOK {
		t.Fatalf("POST /completion: %d %v %s", status, err, body)
	}
	var answer struct {
		TokensPredicted int `json:"tokens_predicted"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.TokensPredicted != 1 {
		t.Errorf("the answer has %d tokens, want 1 (%v): %s", answer.TokensPredicted, err, body)
	}
}

func request(ctx context.Context, client *http.Client, method, path, body string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://llama-server"+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("cannot make a request: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, content, err
}

// realServer is the llama-server that "make test" provides.
func realServer(t *testing.T) string {
	t.Helper()
	const name = "ENGINE_PROVISIONER_LLAMA_SERVER"
	path := os.Getenv(name)
	if path == "" {
		message := name + " names no llama-server; run \"make test\", which gets one"
		if os.Getenv("CI") != "" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	return path
}
