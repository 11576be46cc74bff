package fleet

import (
	"context"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/test/client"
	"github.com/llama-orch/engine-provisioner/settings"
)

// busyConfig is a replica whose requests take d. Its grace is short only where a request is never over.
func busyConfig(t testing.TB, d time.Duration) provisioner.ProvisionConfig {
	cfg := fakeConfig(t, enginetest.Behavior{BusyRequests: d})
	cfg.Ready.Answer = "off"
	cfg.Stop.Grace = settings.Duration(20 * time.Second)
	if d == time.Hour {
		cfg.Stop.Grace = settings.Duration(200 * time.Millisecond)
	}
	cfg.Drain.Timeout = new(settings.Duration(20 * time.Second))
	return cfg
}

// inFlight sends n completion requests and returns when the engine counts them.
func inFlight(t testing.TB, cfg provisioner.ProvisionConfig, n int, body string) <-chan client.Result {
	t.Helper()
	return client.InFlight(t, cfg.Port, n, body)
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
