package fleet

import (
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
)

// customConfig runs the fake llama-server from configuration alone.
func customConfig(t testing.TB, b enginetest.Behavior) provisioner.ProvisionConfig {
	t.Helper()
	cfg := fakeConfig(t, b)
	cfg.Model.ID = "local:" + cfg.Model.ID
	asCustom(t, &cfg)
	return cfg
}

// asCustom makes a replica of llama-server one of the engine "custom", as the example of that describes it.
func asCustom(t testing.TB, cfg *provisioner.ProvisionConfig) {
	t.Helper()
	config, err := provisioner.LoadConfig("../examples/llama-server-custom.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Engine, cfg.Custom = "custom", config.Pools[0].Custom
	cfg.Custom.Command[0] = cfg.Provisioning.Binary.Path
	cfg.Provisioning.Binary = nil
}
