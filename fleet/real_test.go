package fleet

import (
	"os"
	"path/filepath"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

// llamaServer is the real engine: ENGINE_PROVISIONER_LLAMA_SERVER, which "make test" sets.
func llamaServer(t testing.TB) string {
	t.Helper()
	path := os.Getenv("ENGINE_PROVISIONER_LLAMA_SERVER")
	if path == "" {
		skip(t, "needs a real llama-server: set ENGINE_PROVISIONER_LLAMA_SERVER, or run make test")
	}
	return path
}

// realConfig is a replica of the real engine with a tiny generated model.
func realConfig(t testing.TB, size ggufgen.Params) provisioner.ProvisionConfig {
	t.Helper()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Provisioning.Binary.Path = llamaServer(t)
	cfg.Model.ID = filepath.Join(cfg.Dir, "tiny.gguf")
	if err := ggufgen.WriteFile(cfg.Model.ID, size); err != nil {
		t.Fatal(err)
	}
	cfg.Flags = []string{"--ctx-size", "256", "--threads", "1"}
	return cfg
}

var (
	tiny = ggufgen.Params{}
	// big takes a third of a second to load without mmap, long enough to be seen loading.
	big = ggufgen.Params{Width: 1024, Layers: 8}
)
