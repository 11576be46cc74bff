package vllm_test

import (
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
	"github.com/llama-orch/engine-provisioner/internal/version"
)

func TestLaunch(t *testing.T) {
	t.Parallel()
	host := enginetable.VLLM(t)
	hub, one, old, cpu := host, host, host, host
	hub.ModelPath = ""
	one.GPUs = host.GPUs[:1]
	cpu.GPUs = nil
	old.Binary.Version, old.Binary.Build, old.Binary.Flags = "0.11.0", version.Number("0.11.0"), engine.FlagSet{}
	enginetable.Launches(t, vllm.Engine{}, []enginetable.Case{
		{Name: "folder", Host: host},
		{Name: "hub", Host: hub, Model: "hf:Qwen/Qwen3-0.6B"},
		{Name: "hub_pinned", Host: hub, Model: "hf:Qwen/Qwen3-0.6B@c1899de289a04d12100db370d81485cdf75e47ca"},
		{Name: "cpu", Host: cpu, Change: func(r *engine.Request) { r.GPU = engine.GPUNone }},
		{Name: "user", Host: host, Flags: []string{
			"--served-model-name", "a", "b", "-tp=1", "--max_model_len", "4K", "-O3", "--enable-lora", "--compilation-config.cudagraph_mode", "NONE",
			"--shutdown-timeout=60", "--disable-log-stats", "--seed", "-1", "--gpu-mem", "0.5", "--enable-sleep-mode",
		}},
		{Name: "renamed", Host: one, Flags: []string{"--disable-log-requests", "--guided-decoding-backend=xgrammar"}},
		{Name: "old", Host: old, Flags: []string{"--disable-log-requests", "--swap-space", "4", "--brand-new"}},
		{Name: "no_drain", Host: one, Change: func(r *engine.Request) { r.DrainTimeout = 0 }},
		{Name: "short_grace", Host: one, Change: func(r *engine.Request) { r.Grace = 12 * time.Second }},
		{Name: "no_facts"},
	})
}

// A vLLM that may sleep is asked whether it does, before a token is expected of it.
func TestSleeps(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{"--enable-sleep-mode": "/is_sleeping", "--enable-lora": ""} {
		spec, err := vllm.Engine{}.Launch(enginetable.Case{Flags: []string{flag}}.Request(), enginetable.VLLM(t))
		if err != nil || spec.Asleep.Path != want {
			t.Errorf("%s: %+v (%v)", flag, spec.Asleep, err)
		}
	}
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	host := enginetable.VLLM(t)
	enginetable.Refusals(t, vllm.Engine{}, []enginetable.Case{
		{Name: "owned", Host: host, Flags: []string{
			"--model", "x", "--host=0.0.0.0", "--port", "1", "--uds", "/x", "--api-key", "s3cret", "--hf-token=s3cret", "--device-ids", "0",
			"--config", "x.yaml", "--headless", "--nnodes", "2", "--ssl-keyfile", "k", "--help", "-v", "--revision", "main",
		}},
		{Name: "owned_abbreviated", Host: host, Flags: []string{"--por", "1", "--api-k=s3cret", "--host-x"}},
		{Name: "env", Host: host, Env: map[string]string{"VLLM_PORT": "1", "VLLM_API_KEY": "s3cret"}},
		{Name: "unknown", Host: host, Flags: []string{"--tensor-paralel-size", "2", "-ngl", "99", "--compilation-confg.level", "3"}},
		{Name: "values", Host: host, Flags: []string{
			"--max-model-len", "--enable-lora", "--enforce-eager=1", "--dtype", "int8", "--seed", "-x", "--tensor-parallel-size", "2", "3",
		}},
		{Name: "repeated", Host: host, Flags: []string{"-tp", "1", "--tensor-parallel-size=2", "--enable-lora", "--no-enable-lora"}},
		{Name: "json_and_keys", Host: host, Flags: []string{
			"-cc.mode", "3", "--compilation-config.cudagraph_mode=NONE", "--compilation-config", "{}", "--hf-overrides={}", "--hf_overrides.rope_scaling.type", "yarn",
			"--compilation-config.mode", "0",
		}},
		{Name: "removed", Host: host, Flags: []string{"--swap-space", "4", "--task", "embed", "--device=cpu", "--num-scheduler-steps", "8"}},
		{Name: "positional", Host: host, Flags: []string{"facebook/opt-125m"}},
	})
}

func TestCauses(t *testing.T) {
	t.Parallel()
	enginetable.Causes(t, vllm.Engine{})
}

func TestBuiltinFlags(t *testing.T) {
	t.Parallel()
	enginetable.BuiltinFlags(t, enginetable.Recorded(t, "vllm/testdata/help-0.33.0.txt"), flagline.ParseArgparse, enginetable.ArgparseLine)
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	enginetable.Normalized(t, vllm.Engine{}.Dialect(), map[string]string{
		"--max_model_len=4k|-tp|2":                  "--max-model-len=4k|-tp|2",
		"--gpu-mem|0.5|--gpu-mem=0.5":               "--gpu-memory-utilization|0.5|--gpu-memory-utilization=0.5",
		"--compilation_config.cudagraph_mode|NONE":  "--compilation-config.cudagraph_mode|NONE",
		"--served_model_name|a_b|c_d|--enable_lora": "--served-model-name|a_b|c_d|--enable-lora",
		"-cc.mode|3|-cc|{}":                         "--compilation-config.mode|3|-cc|{}",
		"-O3|-O=3|-O|3|-O.mode=3":                   "-O3|-O=3|-O|3|-O.mode=3",
		"--seed=-1|--seed|-1":                       "--seed=-1|--seed|-1",
		"--max|1|--no_such_flag|x":                  "--max|1|--no_such_flag|x",
	})
}

func FuzzFlags(f *testing.F) { enginetable.FuzzFlags(f, vllm.Engine{}, enginetable.VLLM(f)) }
