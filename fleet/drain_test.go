package fleet

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
)

// busyConfig is a replica whose requests take d. Its grace is short only where a request is never over.
func busyConfig(t testing.TB, d time.Duration) provisioner.ProvisionConfig {
	cfg := fakeConfig(t, enginetest.Behavior{BusyRequests: d})
	cfg.Ready.Answer = "off"
	cfg.Stop.Grace = provisioner.Duration(20 * time.Second)
	if d == time.Hour {
		cfg.Stop.Grace = provisioner.Duration(200 * time.Millisecond)
	}
	cfg.Drain.Timeout = new(provisioner.Duration(20 * time.Second))
	return cfg
}

// clientResult is what a client got.
type clientResult struct {
	status int
	body   string
	err    error
}

// oneRequest sends one request on a connection of its own.
func oneRequest(url, body string) clientResult {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return clientResult{err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return clientResult{resp.StatusCode, string(data), err}
}

// inFlight sends n completion requests and returns when the engine counts them.
func inFlight(t testing.TB, cfg provisioner.ProvisionConfig, n int, body string) <-chan clientResult {
	t.Helper()
	results := make(chan clientResult, n)
	for range n {
		go func() { results <- oneRequest(probe.URL("127.0.0.1", cfg.Port)+"/completion", body) }()
	}
	p := probe.New("127.0.0.1", cfg.Port, secret.Text{}, patience)
	g := engine.Gauges{Path: "/metrics", Names: []string{"llamacpp:requests_processing", "llamacpp:requests_deferred"}}
	eventually(t, "the engine is busy", func() bool {
		page, err := p.MetricsPage(context.Background(), g.Path)
		if err != nil {
			return false
		}
		count, err := probe.RequestsOn(page, probe.Series(g))
		return err == nil && count == n
	})
	return results
}

// stopping calls Stop in the background.
func stopping(ctx context.Context, p *provisioner.EngineProvisioner) <-chan error {
	done := make(chan error, 1)
	go func() { done <- p.Stop(ctx) }()
	return done
}

func awaitDraining(t testing.TB, p *provisioner.EngineProvisioner) {
	t.Helper()
	eventually(t, "it drains", func() bool { return p.Status().State == provisioner.StateDraining })
}

func wantNote(t testing.TB, j *journal, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(j.notes(), part) {
			t.Errorf("notes lack %q:\n%s", part, j.notes())
		}
	}
}
