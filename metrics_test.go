package provisioner

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/internal/exposition"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
)

// realMetrics is the page of a real llama-server (b11669-Debian) after one completion.
func realMetrics(t testing.TB) []byte {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("testdata", "metrics", "llama-server.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func TestMetricNames(t *testing.T) {
	t.Parallel()
	names, err := exposition.Sums(realMetrics(t))
	if err != nil || len(names) != 15 {
		t.Errorf("%d series (%v): %v", len(names), err, names)
	}
	spec, err := launchOf(llamacpp.Engine{}, ProvisionConfig{Port: 8080, GPU: engine.GPUNone}, enginetable.LlamaServer(t))
	if err != nil || spec.Metrics == nil || len(spec.Metrics.Required) == 0 {
		t.Fatalf("llama-server has no contract on metrics (%v)", err)
	}
	for _, want := range spec.Metrics.Required {
		if _, there := names[want]; !there {
			t.Errorf("%s is missing", want)
		}
	}
}
