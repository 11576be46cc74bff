package provisioner

import (
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ephemeral"
)

func TestPortsOfTheKernelAreNoted(t *testing.T) {
	t.Parallel()
	ports := ephemeral.OfKernel()
	if ports.Range == (ephemeral.Range{}) {
		skip(t, "needs net.ipv4.ip_local_port_range")
	}
	inside, outside := ports.Range.First, ports.Range.First-1
	if !ports.May(inside) {
		skip(t, "the first port of the range is reserved")
	}
	c := Config{Pools: []Pool{{ProvisionConfig: ProvisionConfig{Port: outside}}, {Replicas: 2, ProvisionConfig: ProvisionConfig{Port: outside}}}}
	all := c.Warnings()
	if len(all) != 1 || all[0].Key != "pools[1].port" || !strings.Contains(all[0].Message, "to outgoing connections") {
		t.Errorf("%+v", all)
	}
	cfg := fakeConfig(t, enginetest.Behavior{})
	for port, notes := range map[int]int{inside: 1, outside: 0} {
		cfg.Port = port
		plan, err := planOf(bounded(t), cfg, WithCacheDir(t.TempDir()))
		if err != nil || len(plan.Notes) != notes {
			t.Errorf("port %d: %q, %v", port, plan.Notes, err)
		}
	}
}
