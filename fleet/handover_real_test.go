package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// An upgrade of the manager under full load: 16 streaming clients on two slots, of which /health gets no answer. The engine is
// adopted under the same pid, and no client is cut off.
func TestRealHandOverUnderLoad(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, big)
	cfg.Flags = []string{"--ctx-size", "2048", "--threads", "1", "--parallel", "2", "--threads-http", "4"}
	first, _ := superviseReady(t, cfg)
	was := first.Status()[0]
	ctx := bounded(t)
	var begun, whole, cut atomic.Int32
	var clients sync.WaitGroup
	body, _ := json.Marshal(map[string]any{"prompt": "Once upon a time", "n_predict": 30, "stream": true, "ignore_eos": true})
	for range 16 {
		clients.Go(func() {
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, was.URL+"/completion", bytes.NewReader(body))
			resp, err := client.Do(req)
			if err != nil {
				cut.Add(1)
				return
			}
			defer resp.Body.Close()
			begun.Add(1)
			if data, err := io.ReadAll(resp.Body); err != nil || !bytes.Contains(data, []byte(`"stop":true`)) {
				cut.Add(1)
				return
			}
			whole.Add(1)
		})
	}
	eventually(t, "it is at work", func() bool { return begun.Load() >= 2 })
	silent, leave := context.WithTimeout(ctx, time.Second)
	defer leave()
	req, _ := http.NewRequestWithContext(silent, http.MethodGet, was.URL+"/health", nil)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	answered, before := err == nil, whole.Load()
	handOver(t, first)
	second, j := superviseReady(t, cfg)
	if now := second.Status()[0]; now.PID != was.PID || now.State != provisioner.StateReady {
		t.Errorf("was %+v\nnow %+v\n%+v", was, now, j.recoveries())
	}
	served := whole.Load()
	clients.Wait()
	t.Logf("chaos: a hand-over under load: health answered %v, %d of 16 clients done before it, %d when it was over, %d in the end, %d cut off",
		answered, before, served, whole.Load(), cut.Load())
	if cut.Load() > 0 || whole.Load() != 16 {
		t.Errorf("%d clients were cut off, %d served", cut.Load(), whole.Load())
	}
}
