package files

import (
	"os"
	"os/exec"
	"testing"

	ep "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/enginetest/conformance"
	"github.com/llama-orch/engine-provisioner/settings"
)

// The main job, with the real thing.
func TestConformance(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("python3 is not there, and it is the engine of this example")
	}
	conformance.Test(t, conformance.Subject{
		Engine: Engine{},
		Wrong:  []func(*engine.Request){func(r *engine.Request) { r.HasKey = true }},
		Config: func(t testing.TB, _ conformance.Pace) ep.ProvisionConfig {
			t.Helper()
			return ep.ProvisionConfig{
				PoolID: "files", ReplicaID: "r0", Engine: "files", Port: enginetest.FreePort(t, 1),
				StateDir: t.TempDir(), Model: settings.Model{ID: t.TempDir()}, GPU: engine.GPUNone,
			}
		},
	})
}
