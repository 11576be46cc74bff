package provisioner

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

// The layers of a head are on its worker, with no GPU here; when the worker is not there, or dies, that is why.
func TestRealRPC(t *testing.T) {
	t.Parallel()
	host.WithLlamaBuilds(t, func(t *testing.T, _, server string) {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(enginetest.FreePort(t, 1)))
		cfg := realConfig(t, tiny)
		cfg.Provisioning.Binary.Path, cfg.GPU = server, engine.GPUNone
		cfg.Flags = append(cfg.Flags, "--rpc", address, "--device", "RPC0")

		p, _ := started(t, cfg)
		_, err := p.WaitReady(bounded(t))
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Cause != engine.CausePeerLost || !exit.Retry || !strings.Contains(exit.Evidence, address) {
			t.Fatalf("without a worker: %v", err)
		}

		worker := startWorker(t, server, address)
		p, _ = ready(t, cfg)
		if !slices.Contains(p.handoff.Args, "all") && !slices.Contains(p.handoff.Args, "999") || slices.Contains(p.handoff.Args, "none") {
			t.Errorf("%q", p.handoff.Args)
		}
		if err := worker.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = worker.Wait() // it was killed
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
		if resp, err := client.Post(p.handoff.URL+"/completion", "application/json", strings.NewReader(`{"prompt":"Hello","n_predict":8}`)); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		awaitDone(t, p)
		if !errors.As(p.Err(), &exit) || exit.Cause != engine.CausePeerLost || !exit.Retry {
			t.Errorf("a worker that dies: %v", p.Err())
		}
	})
}

// startWorker starts the worker beside a llama-server, and waits until it listens.
func startWorker(t *testing.T, server, address string) *exec.Cmd {
	t.Helper()
	at, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(filepath.Dir(server), "ggml-rpc-server"), "-H", at, "-p", port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	eventually(t, "the worker listens", func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return cmd
}
