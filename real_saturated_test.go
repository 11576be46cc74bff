package provisioner

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/probe"
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

func saturatedConfig(t testing.TB) ProvisionConfig {
	cfg := briskly(realConfig(t, slow))
	cfg.Flags = []string{"--ctx-size", "8192", "--parallel", "2", "--threads", "1"}
	cfg.Drain.Timeout = new(Duration(5 * time.Minute))
	return cfg
}

// Clients that hammer a server while it loads do not hold its readiness up for the minutes that a question of our own
// waits for its turn.
func TestRealReadyUnderFire(t *testing.T) {
	t.Parallel()
	p, j := started(t, saturatedConfig(t))
	ctx, end := context.WithCancel(t.Context())
	b := newBurst(ctx, probe.URL("127.0.0.1", p.cfg.Port), 0, 1000)
	defer b.wait.Wait()
	defer end()
	if _, err := p.WaitReady(bounded(t)); err != nil {
		t.Error(err)
	}
	if n := b.answered.Load(); n >= burstClients/2 {
		t.Errorf("%d requests were answered before it was ready; notes: %s", n, j.notes())
	}
}
