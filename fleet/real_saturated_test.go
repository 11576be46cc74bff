package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
)

// slow is a model whose requests last: a thousand tokens take some seconds.
var slow = ggufgen.Params{Width: 512, Layers: 4, Context: 8192}

// burst is clients that stream from a llama-server at once, more than it has threads for.
type burst struct {
	wait      sync.WaitGroup
	connected atomic.Int64
	answered  atomic.Int64 // in full
	cut       atomic.Int64
}

const burstClients = 16

// newBurst has each client send so many requests for n tokens, one after the other, or requests without end until ctx ends. What is
// refused or answered with an error, as by a server that loads, is sent again.
func newBurst(ctx context.Context, url string, requests, n int) *burst {
	b := &burst{}
	for i := range burstClients {
		b.wait.Go(func() {
			client := http.Client{Transport: &http.Transport{
				DisableKeepAlives: true,
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, address)
					if err == nil {
						b.connected.Add(1)
					}
					return conn, err
				},
			}}
			for sent := 0; ctx.Err() == nil && (requests == 0 || sent < requests); {
				body := fmt.Sprintf(`{"prompt":"%s %d","n_predict":%d,"stream":true,"ignore_eos":true}`, strings.Repeat("word ", 20), i, n)
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/completion", strings.NewReader(body))
				if err != nil {
					return
				}
				resp, err := client.Do(req)
				if err != nil && (requests == 0 || sent > 0) {
					time.Sleep(50 * time.Millisecond)
					continue
				}
				sent++
				if err != nil {
					b.cut.Add(1)
					continue
				}
				text, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				switch {
				case resp.StatusCode != http.StatusOK:
					time.Sleep(10 * time.Millisecond)
				case err == nil && bytes.Contains(text, []byte(`"stop":true`)):
					b.answered.Add(1)
				default:
					b.cut.Add(1)
				}
			}
		})
	}
	return b
}

func saturatedConfig(t testing.TB) provisioner.ProvisionConfig {
	cfg := briskly(realConfig(t, slow))
	cfg.Flags = []string{"--ctx-size", "8192", "--parallel", "2", "--threads", "1"}
	cfg.Drain.Timeout = new(provisioner.Duration(5 * time.Minute))
	return cfg
}

// A llama-server that gets a burst of clients leaves /health without an answer: its pool of threads grows only with later
// connections, and these wait behind the others. It serves on, whatever liveness sees, and a stop cuts nobody off. How often it
// is silent is luck, so the burst waits in the backlog of a suspended server to come all at once.
func TestRealSaturated(t *testing.T) {
	t.Parallel()
	cfg := saturatedConfig(t)
	cfg.Liveness = provisioner.LivenessConfig{Period: provisioner.Duration(100 * time.Millisecond), Timeout: provisioner.Duration(100 * time.Millisecond)}
	s, j := superviseReady(t, cfg)
	first := s.Status()[0]
	if err := syscall.Kill(first.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b := newBurst(t.Context(), first.URL, 1, 100)
	defer b.wait.Wait()
	eventually(t, "all clients are connected", func() bool { return b.connected.Load() == burstClients })
	if err := syscall.Kill(first.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	ask, unanswered := probe.New("127.0.0.1", cfg.Port, secret.Text{}, 200*time.Millisecond), 0
	eventually(t, "clients are answered", func() bool {
		if _, err := ask.Get(t.Context(), "/health", probe.MaxHealthBody); errors.Is(err, probe.ErrNoAnswer) {
			unanswered++
		}
		return b.answered.Load() >= 2
	})
	t.Logf("/health was unanswered %d times", unanswered)
	if now := s.Status()[0]; now.LaunchID != first.LaunchID || now.State != provisioner.StateReady {
		t.Errorf("%+v", now)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("Stop: %v", err)
	}
	b.wait.Wait()
	if b.answered.Load() != burstClients || b.cut.Load() != 0 {
		t.Errorf("%d clients were answered, %d cut off", b.answered.Load(), b.cut.Load())
	}
	if notes := j.notes(); strings.Contains(notes, "not waited for") {
		t.Errorf("notes: %s", notes)
	}
}
