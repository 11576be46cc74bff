package fleet

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/test/inmemory"
	"github.com/llama-orch/engine-provisioner/settings"
)

// memoryConfig is a replica for a machine in memory.
func memoryConfig(t testing.TB) provisioner.ProvisionConfig {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, nil, 0o700); err != nil { //nolint:gosec // it is to be executable
		t.Fatal(err)
	}
	return provisioner.ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "memory", Port: enginetest.FreePort(t, 1), GPU: engine.GPUNone,
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: program}}, Drain: settings.Drain{Timeout: new(settings.Duration(time.Hour))},
	}
}

// inMemory are the options for launches on a machine in memory.
func inMemory(m *inmemory.Machine) []provisioner.Option {
	return []provisioner.Option{provisioner.WithEngine(inmemory.Kind{}), provisioner.WithLauncher(m)}
}
