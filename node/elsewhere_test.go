package node

import (
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
)

// A plan for another machine tells how each mode brings the executable, and is the same wherever it is made.
func TestElsewhere(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for provisioning, first := range map[string]string{
		`{mode: source, source: {repo: "https://example.com/l.git", ref: b11434, targets: [llama-server, rpc-server]}}`: "build llama-server, rpc-server from https://example.com/l.git at b11434 with cmake -DCMAKE_BUILD_TYPE=Release ",
		`{binary: {release: b11070}}`:         "download llama-server of the release b11070",
		`{binary: {path: /opt/llama-server}}`: "find /opt/llama-server",
		`{mode: binary}`:                      "find llama-server in PATH",
	} {
		cfg := replicaOf(t, "port: 8081", "gpu: required", "devices: [3]", `model: {id: "hf:owner/repo:Q8_0"}`, "provisioning: "+provisioning)
		plan, err := Elsewhere(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Pending) != 1 || !strings.HasPrefix(plan.Pending[0], first) {
			t.Errorf("%s: first %q, want %q", provisioning, plan.Pending, first)
		}
		if !plan.Elsewhere || plan.Binary != "" || plan.GPUs != nil || plan.Record != "" || !slices.Contains(plan.Args(), "hf:owner/repo:Q8_0") {
			t.Errorf("%+v", plan)
		}
		if !slices.ContainsFunc(plan.Notes, func(n string) bool { return strings.HasPrefix(n, "gpu: required, devices 3;") }) {
			t.Errorf("%q", plan.Notes)
		}
	}
	cpu, err := Elsewhere(replicaOf(t, "port: 8081", "gpu: none", "model: {id: /m.gguf}", "flags: [--no-such-flag]"))
	if err != nil || slices.ContainsFunc(cpu.Notes, func(n string) bool { return strings.HasPrefix(n, "gpu:") }) {
		t.Errorf("%q, %v", cpu.Notes, err)
	}
	if !slices.ContainsFunc(cpu.Flags, func(f engine.Flag) bool { return slices.Equal(f.Args, []string{"--n-gpu-layers", "0"}) }) {
		t.Errorf("%v", cpu.Flags)
	}
}
