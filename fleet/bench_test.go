package fleet

import (
	"fmt"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
)

// fakeConfigs are n replicas of one pool with one executable.
func fakeConfigs(b testing.TB, n int, behavior enginetest.Behavior) []provisioner.ProvisionConfig {
	first := fakeConfig(b, behavior)
	port := enginetest.FreePort(b, n)
	cfgs := make([]provisioner.ProvisionConfig, n)
	for i := range cfgs {
		cfgs[i] = first
		cfgs[i].ReplicaID = fmt.Sprintf("r%d", i)
		cfgs[i].Port = port + i
	}
	return cfgs
}
