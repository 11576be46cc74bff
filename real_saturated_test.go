package provisioner

import (
	"context"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/test/burst"
	"github.com/llama-orch/engine-provisioner/settings"
)

// slow is a model whose requests last: a thousand tokens take some seconds.
var slow = ggufgen.Params{Width: 512, Layers: 4, Context: 8192}

func saturatedConfig(t testing.TB) ProvisionConfig {
	cfg := briskly(realConfig(t, slow))
	cfg.Flags = []string{"--ctx-size", "8192", "--parallel", "2", "--threads", "1"}
	cfg.Drain.Timeout = new(settings.Duration(5 * time.Minute))
	return cfg
}

// Clients that hammer a server while it loads do not hold its readiness up for the minutes that a question of our own
// waits for its turn.
func TestRealReadyUnderFire(t *testing.T) {
	t.Parallel()
	p, j := started(t, saturatedConfig(t))
	ctx, end := context.WithCancel(t.Context())
	b := burst.Start(ctx, probe.URL("127.0.0.1", p.cfg.Port), 0, 1000)
	defer b.Wait()
	defer end()
	if _, err := p.WaitReady(bounded(t)); err != nil {
		t.Error(err)
	}
	if n := b.Answered.Load(); n >= burst.Clients/2 {
		t.Errorf("%d requests were answered before it was ready; notes: %s", n, j.notes())
	}
}
