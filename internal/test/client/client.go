// Package client is who uses an engine while a test does something to it.
//
// Tests of the root, of what stands on it and of the command call it, and nothing else.
package client

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/test/wait"
)

// Result is what a client got.
type Result struct {
	Status int
	Body   string
	Err    error
}

// One sends one request on a connection of its own.
func One(url, body string) Result {
	client := http.Client{Timeout: wait.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return Result{Err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return Result{resp.StatusCode, string(data), err}
}

// Get is the status and the body of an answer to c, which must come.
func Get(t testing.TB, c *http.Client, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(wait.Bounded(t), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// RequestTime is how long a request takes that a drain waits for.
const RequestTime = 2 * time.Second

// InFlight sends n completion requests to the fake llama-server at the port, and returns when that counts them and they go on for
// a while: where the machine stood still in between, they are sent again, as soon as they are over.
func InFlight(t testing.TB, port, n int, body string) <-chan Result {
	t.Helper()
	metrics := probe.New("127.0.0.1", port, secret.Text{}, wait.Patience)
	gauges := probe.Series{Path: "/metrics", Names: []string{"llamacpp:requests_processing", "llamacpp:requests_deferred"}}
	for {
		results, sent := make(chan Result, n), time.Now()
		for range n {
			go func() { results <- One(probe.URL("127.0.0.1", port)+"/completion", body) }()
		}
		counted := false
		wait.Until(t, "the engine is busy", func() bool {
			if len(results) == n {
				return true
			}
			page, err := metrics.MetricsPage(context.Background(), gauges.Path)
			if err != nil {
				return false
			}
			count, err := probe.RequestsOn(page, gauges)
			took := time.Since(sent)
			counted = err == nil && count == n && (took < RequestTime/2 || took > 2*RequestTime) // these take longer
			return counted
		})
		if counted {
			return results
		}
		for range n {
			if r := <-results; r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
}
