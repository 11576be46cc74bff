package provisioner

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-orch/engine-provisioner/settings"
)

// What an engine says is told without a host; who asks for one that does not exist is told what there is.
func TestDescribe(t *testing.T) {
	t.Parallel()
	cfg := ProvisionConfig{PoolID: "p", ReplicaID: "r0", Engine: "vllm", Port: 8081, Model: settings.Model{ID: "hf:owner/model"}}
	program, spec, err := cfg.Describe()
	if err != nil || program.Command != "vllm" || spec.Health != "/health" || spec.Grace <= 0 {
		t.Errorf("%+v, %+v (%v)", program, spec, err)
	}
	cfg.Engine = "vlllm"
	_, _, err = cfg.Describe()
	wantText(t, err, "vlllm", "vllm")
}

func TestConfigFile(t *testing.T) {
	t.Parallel()
	const text = "pools:\n  - {id: chat, engine: llamacpp, port: 8081, model: {id: /models/chat.gguf}}\n"
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"": "", "/etc/llm/pools.yaml": "/etc/llm/pools.yaml", "pools.yaml": filepath.Join(here, "pools.yaml")} {
		c, err := ParseConfig([]byte(text), file)
		if err != nil || c.File() != want {
			t.Errorf("%q: %q (%v), want %q", file, c.File(), err, want)
		}
	}
	if got := (&Config{}).File(); got != "" {
		t.Errorf("a configuration from Go: %q", got)
	}
}
