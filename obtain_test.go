package provisioner

import (
	"reflect"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
)

// What is offered where an engine is missing can be written into a file as it is, and means what is offered.
func TestSuggestedProvisioning(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][2]string{ // with a GPU, and without
		"llamacpp": {"provisioning: {binary: {release: b11070}}", "provisioning: {binary: {release: b11070}}"},
		"vllm":     {"provisioning: {mode: package, package: {requirements: ['vllm==0.32.0']}}", "provisioning: {mode: container}"},
		"sglang":   {"provisioning: {mode: package, package: {requirements: ['sglang==0.5.23']}}", "provisioning: {mode: package, package: {requirements: ['sglang==0.5.23']}}"},
		"tgi":      {"provisioning: {mode: container}", "provisioning: {mode: container}"},
	} {
		model := "hf:org/model"
		if name == "llamacpp" {
			model = "m.gguf"
		}
		for i, gpu := range []engine.GPUPolicy{engine.GPURequired, engine.GPUNone} {
			p, ok := ProvisionConfig{Engine: name, GPU: gpu}.SuggestedProvisioning()
			if line := p.Line(); !ok || line != lines[i] {
				t.Errorf("%s, gpu: %s: %q, want %q", name, gpu, line, lines[i])
			}
			text := strings.Join([]string{"pools:", "  - id: a", "    engine: " + name, "    port: 8081", "    model: {id: '" + model + "'}", "    " + lines[i]}, "\n")
			config, err := ParseConfig([]byte(text), "")
			if err != nil {
				t.Errorf("%s\n%v", text, err)
				continue
			}
			if got := config.Pools[0].Provisioning; !reflect.DeepEqual(got, p) {
				t.Errorf("%s is read as %+v, and %+v is offered", lines[i], got, p)
			}
		}
	}
	for _, name := range []string{"custom", "no-such"} {
		if p, ok := (ProvisionConfig{Engine: name}).SuggestedProvisioning(); ok {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
