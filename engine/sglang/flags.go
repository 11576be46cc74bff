package sglang

import (
	_ "embed"
	"strings"
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/internal/python"
)

// flagsText is the help of SGLang 0.5.23 without its descriptions. TestBuiltinFlags of the root rewrites it.
//
//go:embed flags.txt
var flagsText string

var builtinFlags = sync.OnceValue(func() engine.FlagSet { return flagline.ParseArgparse(flagsText) })

// parseHelp leaves out the server for images and videos, whose help follows.
func parseHelp(output string) engine.FlagSet {
	output, _, _ = strings.Cut(output, "--- Help for Diffusion Model Server ---")
	return flagline.ParseArgparse(output)
}

// dialect is the command line of "sglang serve": Python's argparse, which takes the beginning of a name and
// "--flag=value".
var dialect = flagline.Dialect{
	Program:    "sglang",
	Commands:   []flagline.Command{{Name: "sglang", Subcommand: "serve"}, {Name: "sglang.launch_server"}},
	Positional: true,
	Builtin:    builtinFlags,
	Newest:     5023,
	Pinned:     python.Pinned("sglang", "sglang"),
	Joined:     true,
	Prefixes:   true,
	Canonical:  map[string]string{"--tensor-parallel-size": "--tp-size", "--data-parallel-size": "--dp-size", "--pipeline-parallel-size": "--pp-size"},
	Hidden: engine.FlagSet{Defs: []engine.FlagDef{
		{Names: []string{"--model-type"}, Value: "BACKEND"}, // cli/serve.py takes it away before the parser sees it
	}},
	Owned: []flagline.Owned{
		{Names: []string{"--model-path", "--model"}, Advice: flagline.AdviceModel},
		{Names: []string{"--revision"}, Advice: python.AdviceRevision},
		{Names: []string{"--host"}, Advice: flagline.AdviceHost},
		{Names: []string{"--port"}, Advice: flagline.AdvicePort},
		{Names: []string{"--api-key", "--admin-api-key", "--ssl-keyfile-password"}, Advice: "a key on the command line can be read by every user of this machine; put a proxy that asks for it in front of the engine"},
		{Names: []string{"--base-gpu-id", "--gpu-id-step"}, Advice: flagline.AdviceDevices},
		{Names: []string{"--config"}, Advice: flagline.AdviceFile},
		{Names: []string{"--grpc-mode", "--smg-grpc-mode"}, Advice: python.AdviceNoServer},
		{Names: []string{"--nnodes", "--node-rank", "--dist-init-addr", "--nccl-init-addr"}, Advice: python.AdviceNodes},
		{Names: []string{"--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs"}, Advice: flagline.AdviceTLS},
		{Names: []string{"-h", "--help"}, Advice: flagline.AdviceExit},
	},
	Alone: map[string]func(string) bool{"--nnodes": flagline.Exactly("1"), "--node-rank": flagline.Exactly("0"), "--dist-init-addr": flagline.OnLoopback},
	OwnedEnv: map[string]string{
		"SGL_FORCE_SHUTDOWN":                       "it would cut off what is in flight; remove it, or shorten \"stop.grace\"",
		"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "a server whose scheduler is dead would look healthy; remove it",
	},
	Changes: []flagline.Change{
		// Refused with these words by the versions that know them at all (server_args.py, DeprecatedAction).
		{Old: []string{"--enable-ep-moe"}, Since: 1, Advice: `write "--ep-size" with the number of GPUs`},
		{Old: []string{"--enable-deepep-moe"}, To: []string{"--moe-a2a-backend", "deepep"}, Since: 1},
		{Old: []string{"--enable-flashinfer-cutlass-moe"}, To: []string{"--moe-runner-backend", "flashinfer_cutlass"}, Since: 1},
		{Old: []string{"--enable-flashinfer-trtllm-moe"}, To: []string{"--moe-runner-backend", "flashinfer_trtllm"}, Since: 1},
		{Old: []string{"--enable-triton-kernel-moe"}, To: []string{"--moe-runner-backend", "triton_kernel"}, Since: 1},
		{Old: []string{"--enable-flashinfer-mla"}, To: []string{"--attention-backend", "flashinfer"}, Since: 1},
		{Old: []string{"--enable-flashmla"}, To: []string{"--attention-backend", "flashmla"}, Since: 1},
		{Old: []string{"--disable-mla"}, Since: 1, Advice: "leave it out: there is no other way any more"},
		{Old: []string{"--disable-flashinfer"}, Since: 1, Advice: `write "--attention-backend triton"`},
		// Aliases from #23906 on, which 0.5.23 has no more.
		{Old: []string{"--cuda-graph-max-bs"}, Values: 1, To: []string{"--cuda-graph-max-bs-decode"}, Since: 5023},
		{Old: []string{"--cuda-graph-bs"}, Values: 1, Many: true, To: []string{"--cuda-graph-bs-decode"}, Since: 5023},
		{Old: []string{"--piecewise-cuda-graph-max-tokens"}, Values: 1, To: []string{"--cuda-graph-max-bs-prefill"}, Since: 5023},
		{Old: []string{"--piecewise-cuda-graph-tokens"}, Values: 1, Many: true, To: []string{"--cuda-graph-bs-prefill"}, Since: 5023},
		{Old: []string{"--disable-piecewise-cuda-graph"}, To: []string{"--cuda-graph-backend-prefill", "disabled"}, Since: 5023},
		{Old: []string{"--enable-breakable-cuda-graph"}, To: []string{"--cuda-graph-backend-prefill", "breakable"}, Since: 5023},
		{
			Old: []string{"--enable-piecewise-cuda-graph", "--enforce-piecewise-cuda-graph"}, Since: 5023,
			Advice: `leave it out, or write "--cuda-graph-backend-prefill"`,
		},
		{
			Old: []string{"--piecewise-cuda-graph-compiler"}, Values: 1, Since: 5023,
			Advice: "leave it out: there is one way to compile them",
		},
		{Old: []string{"--nsa-prefill-backend"}, Values: 1, To: []string{"--dsa-prefill-backend"}, Since: 5023},
		{Old: []string{"--nsa-decode-backend"}, Values: 1, To: []string{"--dsa-decode-backend"}, Since: 5023},
		{Old: []string{"--mamba-scheduler-strategy"}, Values: 1, To: []string{"--mamba-radix-cache-strategy"}, Since: 5023},
		{Old: []string{"--stream-output"}, To: []string{"--incremental-streaming-output"}, Since: 5023},
		{
			Old: []string{"--enable-prefill-context-parallel", "--enable-nsa-prefill-context-parallel"},
			To:  []string{"--enable-prefill-cp"}, Since: 5023,
		},
		{
			Old: []string{"--prefill-round-robin-balance", "--collect-tokens-histogram"}, Since: 5023,
			Advice: "leave it out: it has no effect any more",
		},
	},
	// The help of 0.5.23.
	Deprecated: map[string]string{
		"--enable-dp-attention": `"--attn-dp-size" says the same together with "--dp-size"`,
		"--disable-cuda-graph":  `"--cuda-graph-backend-decode=disabled" and "--cuda-graph-backend-prefill=disabled" say the same`,
		"--monokernel-backend":  `"--enable-amd-monokernel" says the same`,
	},
	Defaults: []flagline.Default{
		{Subjects: []string{"enable-metrics"}, Args: [][]string{{"--enable-metrics"}}, Note: "for monitoring"},
	},
}
