package provisioner

import (
	"os"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/version"
)

// vllmFake is a replica of a fake vLLM whose own waits are short.
func vllmFake(t testing.TB, b enginetest.Behavior) ProvisionConfig {
	t.Helper()
	b.Engine, b.Speed = enginetest.VLLM, 50
	cfg := fakeConfig(t, b)
	cfg.Engine, cfg.Model.ID = "vllm", "hf:owner/model"
	return cfg
}

// vllmHost has the flags of the recorded vLLM and two GPUs.
func vllmHost(t testing.TB) engine.Host {
	t.Helper()
	text, err := os.ReadFile("testdata/vllm/help-0.32.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	return engine.Host{
		Binary:    engine.Binary{Path: "/opt/vllm/bin/vllm", Version: "0.32.0", Build: version.Number("0.32.0"), Flags: flagline.ParseArgparse(string(text))},
		ModelPath: "/models/chat", GPUs: []engine.GPU{{UUID: "GPU-1"}, {UUID: "GPU-2"}},
	}
}

func TestVLLMLaunch(t *testing.T) {
	t.Parallel()
	host := vllmHost(t)
	hub, one, old, cpu := host, host, host, host
	hub.ModelPath = ""
	one.GPUs = host.GPUs[:1]
	cpu.GPUs = nil
	old.Binary.Version, old.Binary.Build, old.Binary.Flags = "0.11.0", version.Number("0.11.0"), engine.FlagSet{}
	testLaunches(t, vllm.Engine{}, []launchCase{
		{name: "folder", host: host},
		{name: "hub", host: hub, model: "hf:Qwen/Qwen3-0.6B"},
		{name: "hub_pinned", host: hub, model: "hf:Qwen/Qwen3-0.6B@c1899de289a04d12100db370d81485cdf75e47ca"},
		{name: "cpu", host: cpu, cfg: func(c *ProvisionConfig) { c.GPU = GPUNone }},
		{name: "user", host: host, flags: []string{
			"--served-model-name", "a", "b", "-tp=1", "--max_model_len", "4K", "-O3", "--enable-lora", "--compilation-config.cudagraph_mode", "NONE",
			"--shutdown-timeout=60", "--disable-log-stats", "--seed", "-1", "--gpu-mem", "0.5", "--enable-sleep-mode",
		}},
		{name: "renamed", host: one, flags: []string{"--disable-log-requests", "--guided-decoding-backend=xgrammar"}},
		{name: "old", host: old, flags: []string{"--disable-log-requests", "--swap-space", "4", "--brand-new"}},
		{name: "no_drain", host: one, cfg: func(c *ProvisionConfig) { c.Drain.Timeout = new(Duration(0)) }},
		{name: "short_grace", host: one, cfg: func(c *ProvisionConfig) { c.Stop.Grace = Duration(12 * time.Second) }},
		{name: "no_facts"},
	}, "launches")
}

// A vLLM that may sleep is asked whether it does, before a token is expected of it.
func TestVLLMSleeps(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{"--enable-sleep-mode": "/is_sleeping", "--enable-lora": ""} {
		spec, err := launchOf(vllm.Engine{}, launchCase{flags: []string{flag}}.config(vllm.Engine{}), vllmHost(t))
		if err != nil || spec.Asleep.Path != want {
			t.Errorf("%s: %+v (%v)", flag, spec.Asleep, err)
		}
	}
}

func TestVLLMBadFlags(t *testing.T) {
	t.Parallel()
	host := vllmHost(t)
	testLaunches(t, vllm.Engine{}, []launchCase{
		{name: "owned", host: host, flags: []string{
			"--model", "x", "--host=0.0.0.0", "--port", "1", "--uds", "/x", "--api-key", "s3cret", "--hf-token=s3cret", "--device-ids", "0",
			"--config", "x.yaml", "--headless", "--nnodes", "2", "--ssl-keyfile", "k", "--help", "-v", "--revision", "main",
		}},
		{name: "owned_abbreviated", host: host, flags: []string{"--por", "1", "--api-k=s3cret", "--host-x"}},
		{name: "env", host: host, env: map[string]EnvValue{"VLLM_PORT": {Value: "1"}, "VLLM_API_KEY": {Value: "s3cret"}}},
		{name: "unknown", host: host, flags: []string{"--tensor-paralel-size", "2", "-ngl", "99", "--compilation-confg.level", "3"}},
		{name: "values", host: host, flags: []string{
			"--max-model-len", "--enable-lora", "--enforce-eager=1", "--dtype", "int8", "--seed", "-x", "--tensor-parallel-size", "2", "3",
		}},
		{name: "repeated", host: host, flags: []string{"-tp", "1", "--tensor-parallel-size=2", "--enable-lora", "--no-enable-lora"}},
		{name: "json_and_keys", host: host, flags: []string{
			"-cc.mode", "3", "--compilation-config.cudagraph_mode=NONE", "--compilation-config", "{}", "--hf-overrides={}", "--hf_overrides.rope_scaling.type", "yarn",
			"--compilation-config.mode", "0",
		}},
		{name: "removed", host: host, flags: []string{"--swap-space", "4", "--task", "embed", "--device=cpu", "--num-scheduler-steps", "8"}},
		{name: "positional", host: host, flags: []string{"facebook/opt-125m"}},
	}, "badflags")
}

func TestVLLMCauses(t *testing.T) {
	t.Parallel()
	testCauses(t, vllm.Engine{})
}
