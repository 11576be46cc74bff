package provisioner

import (
	"os"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/internal/version"
)

// sglangHost has the flags of the recorded SGLang and two GPUs.
func sglangHost(t testing.TB) engine.Host {
	t.Helper()
	text, err := os.ReadFile("testdata/sglang/help-0.5.23.txt")
	if err != nil {
		t.Fatal(err)
	}
	return engine.Host{
		Binary:    engine.Binary{Path: "/opt/sglang/bin/sglang", Version: "0.5.23", Build: version.Number("0.5.23"), Flags: sglang.Engine{}.Program(engine.Request{}).ParseHelp(string(text))},
		ModelPath: "/models/chat", GPUs: []engine.GPU{{UUID: "GPU-1"}, {UUID: "GPU-2"}},
	}
}

func TestSGLangLaunch(t *testing.T) {
	t.Parallel()
	host := sglangHost(t)
	hub, one, old := host, host, host
	hub.ModelPath = ""
	one.GPUs = nil
	old.Binary.Version, old.Binary.Build, old.Binary.Flags = "0.5.3", version.Number("0.5.3"), engine.FlagSet{}
	testLaunches(t, sglang.Engine{}, []launchCase{
		{name: "folder", host: host},
		{name: "hub_pinned", host: hub, model: "hf:Qwen/Qwen3-0.6B@c1899de289a04d12100db370d81485cdf75e47ca"},
		{name: "cpu", host: one, cfg: func(c *ProvisionConfig) { c.GPU = GPUNone }},
		{name: "user", host: host, flags: []string{
			"--tensor-parallel-size", "1", "--context_length=4096", "--served-model-name", "a", "--enable-metrics", "--mem-frac", "0.8",
			"--lora-paths", "a=/x", "b=/y", "--enable-deepep-moe", "--disable-cuda-graph", "--nccl-port", "28000",
		}},
		{name: "old", host: old},
		{name: "no_facts"},
	}, "launches")
}

func TestSGLangBadFlags(t *testing.T) {
	t.Parallel()
	host := sglangHost(t)
	testLaunches(t, sglang.Engine{}, []launchCase{
		{name: "owned", host: host, flags: []string{
			"--model", "x", "--hos=0.0.0.0", "--port", "1", "--api-key", "s3cret", "--admin-api-key=s3cret", "--base-gpu-id", "1", "--config", "x",
			"--nnodes", "2", "--ssl-keyfile", "k", "-h", "--revision", "main", "--grpc-mode",
		}},
		{name: "env", host: host, env: map[string]EnvValue{"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": {Value: "false"}}},
		{name: "unknown", host: host, flags: []string{"--max-model-len", "4096", "--tp", "2", "--enable-ep-moe"}},
		{name: "values", host: host, flags: []string{"--context-length", "--enable-metrics=1", "--dtype", "int8"}},
	}, "badflags")
}

func TestSGLangCauses(t *testing.T) {
	t.Parallel()
	testCauses(t, sglang.Engine{})
}
