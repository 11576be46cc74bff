package sglang_test

import (
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
	"github.com/llama-orch/engine-provisioner/internal/version"
)

func TestLaunch(t *testing.T) {
	t.Parallel()
	host := enginetable.SGLang(t)
	hub, one, old := host, host, host
	hub.ModelPath = ""
	one.GPUs = nil
	old.Binary.Version, old.Binary.Build, old.Binary.Flags = "0.5.3", version.Number("0.5.3"), engine.FlagSet{}
	enginetable.Launches(t, sglang.Engine{}, []enginetable.Case{
		{Name: "folder", Host: host},
		{Name: "hub_pinned", Host: hub, Model: "hf:Qwen/Qwen3-0.6B@c1899de289a04d12100db370d81485cdf75e47ca"},
		{Name: "cpu", Host: one, Change: func(r *engine.Request) { r.GPU = engine.GPUNone }},
		{Name: "user", Host: host, Flags: []string{
			"--tensor-parallel-size", "1", "--context_length=4096", "--served-model-name", "a", "--enable-metrics", "--mem-frac", "0.8",
			"--lora-paths", "a=/x", "b=/y", "--enable-deepep-moe", "--disable-cuda-graph", "--nccl-port", "28000",
		}},
		{Name: "old", Host: old},
		{Name: "no_facts"},
	})
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	host := enginetable.SGLang(t)
	enginetable.Refusals(t, sglang.Engine{}, []enginetable.Case{
		{Name: "owned", Host: host, Flags: []string{
			"--model", "x", "--hos=0.0.0.0", "--port", "1", "--api-key", "s3cret", "--admin-api-key=s3cret", "--base-gpu-id", "1", "--config", "x",
			"--nnodes", "2", "--ssl-keyfile", "k", "-h", "--revision", "main", "--grpc-mode",
		}},
		{Name: "env", Host: host, Env: map[string]string{"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "false"}},
		{Name: "unknown", Host: host, Flags: []string{"--max-model-len", "4096", "--tp", "2", "--enable-ep-moe"}},
		{Name: "values", Host: host, Flags: []string{"--context-length", "--enable-metrics=1", "--dtype", "int8"}},
	})
}

func TestCauses(t *testing.T) {
	t.Parallel()
	enginetable.Causes(t, sglang.Engine{})
}

func TestBuiltinFlags(t *testing.T) {
	t.Parallel()
	parse := sglang.Engine{}.Program(engine.Request{}).ParseHelp
	enginetable.BuiltinFlags(t, enginetable.Recorded(t, "sglang/testdata/help-0.5.23.txt"), parse, enginetable.ArgparseLine)
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	enginetable.Normalized(t, sglang.Engine{}.Dialect(), map[string]string{
		"--tensor-parallel-size=2|--context_length|4096": "--tp-size=2|--context-length|4096",
		"--lora_paths|a=/x|b=/y":                         "--lora-paths|a=/x|b=/y",
	})
}

func FuzzFlags(f *testing.F) { enginetable.FuzzFlags(f, sglang.Engine{}, enginetable.SGLang(f)) }
