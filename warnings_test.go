package provisioner

import (
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// What cannot be judged before the engine is there is told, with its place in the file.
func TestWarningsOfFlags(t *testing.T) {
	t.Parallel()
	config, err := ParseConfig([]byte(`pools:
  - id: a
    engine: vllm
    port: 8081
    model: {id: "hf:a/b"}
    flags: [--max-num-seqs, "4", --swap-space, "16", --brand-new]
  - id: b
    engine: llamacpp
    port: 8082
    model: {id: m.gguf}
    env: {LLAMA_ARG_CTX_SIZE: "1024", LLAMA_ARG_BRAND_NEW: "1"}
  - id: c
    engine: llamacpp
    port: 8083
    model: {id: m.gguf}
    flags: [--spec-ngram-size-n, "4"]
    provisioning: {binary: {release: b8895}}
`), "pools.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []Problem{
		{6, 34, "pools[0].flags[2]", `newer builds of vllm have no "--swap-space" any more; there, leave it out: vLLM computes again what it evicts`},
		{6, 54, "pools[0].flags[4]", `no vllm that is known here has "--brand-new"; it is passed on, and the one that will run judges it`},
		{11, 60, "pools[1].env.LLAMA_ARG_BRAND_NEW", "no llama-server that is known here has such a variable, and one that does not know it ignores it"},
	}
	got := config.Warnings()
	if len(got) != len(want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for i, w := range want {
		if got[i] != w {
			t.Errorf("got %+v, want %+v", got[i], w)
		}
	}
}

// What speaks of several nodes is taken where it says that there is one.
func TestOneNode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		engine Engine
		flags  string
		env    map[string]settings.EnvValue
		want   string // of the error; "" for none
	}{
		{sglang.Engine{}, "--nnodes 1 --node-rank 0 --dist-init-addr 127.0.0.1:5757", nil, ""},
		{sglang.Engine{}, "--nnodes=1 --nccl-init-addr [::1]:5757", nil, ""},
		{sglang.Engine{}, "--nnodes 2", nil, "a replica runs on this node alone"},
		{sglang.Engine{}, "--nnodes", nil, "a replica runs on this node alone"},
		{sglang.Engine{}, "--node-rank 1", nil, "a replica runs on this node alone"},
		{sglang.Engine{}, "--dist-init-addr 10.0.0.1:5757", nil, "a replica runs on this node alone"},
		{sglang.Engine{}, "--dist-init-addr head:5757", nil, "a replica runs on this node alone"},
		{vllm.Engine{}, "--nnodes 1 -r 0 -dpa localhost --data-parallel-size 1", nil, ""},
		{vllm.Engine{}, "-n 1", nil, ""},
		{vllm.Engine{}, "-n 4", nil, "a replica runs on this node alone"},
		{vllm.Engine{}, "--headless", nil, "a replica is one server"},
		{tgi.Engine{}, "--master-addr localhost", nil, ""},
		{tgi.Engine{}, "--master-addr 10.0.0.1", nil, "a replica runs on this node alone"},
		{tgi.Engine{}, "", map[string]settings.EnvValue{"MASTER_ADDR": {Value: "127.0.0.1"}}, ""},
		{tgi.Engine{}, "", map[string]settings.EnvValue{"MASTER_ADDR": {Value: "10.0.0.1"}}, "a replica runs on this node alone"},
	} {
		cfg := llamaConfig(strings.Fields(tt.flags)...)
		cfg.Env = tt.env
		spec, err := launchOf(tt.engine, cfg, engine.Host{})
		switch {
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s %q: %v, want %q", tt.engine.Name(), tt.flags, err, tt.want)
		case tt.want == "" && err != nil:
			t.Errorf("%s %q: %v", tt.engine.Name(), tt.flags, err)
		case tt.want == "" && len(tt.flags) > 0 && !strings.HasSuffix(strings.Join(report.Plan{Flags: spec.Flags}.Args(), " "), strings.Fields(tt.flags)[len(strings.Fields(tt.flags))-1]):
			t.Errorf("%s %q: %q", tt.engine.Name(), tt.flags, spec.Flags)
		}
	}
	spec, err := launchOf(sglang.Engine{}, llamaConfig("--dist-init-addr", "127.0.0.1:5757"), engine.Host{})
	if err != nil || len(spec.Ports) != 1 || spec.Ports[0].Number != 5757 {
		t.Errorf("the port that keeps two servers apart is not known: %+v, %v", spec.Ports, err)
	}
}
