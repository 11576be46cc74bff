package provisioner

import (
	_ "embed"
	"strings"
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"
)

// sglangFlagsText is the help of SGLang 0.5.23 without its descriptions. TestBuiltinFlags rewrites it.
//
//go:embed sglang_flags.txt
var sglangFlagsText string

var builtinSGLangFlags = sync.OnceValue(func() engine.FlagSet { return parseArgparseHelp(sglangFlagsText) })

// parseSGLangHelp leaves out the server for images and videos, whose help follows.
func parseSGLangHelp(output string) engine.FlagSet {
	output, _, _ = strings.Cut(output, "--- Help for Diffusion Model Server ---")
	return parseArgparseHelp(output)
}

// sglangDialect is the command line of "sglang serve": Python's argparse, which takes the beginning of a name and
// "--flag=value".
var sglangDialect = flagDialect{
	program:   "sglang",
	builtin:   builtinSGLangFlags,
	newest:    5023,
	pinned:    pinnedVersion("sglang", "sglang"),
	joined:    true,
	prefixes:  true,
	canonical: map[string]string{"--tensor-parallel-size": "--tp-size", "--data-parallel-size": "--dp-size", "--pipeline-parallel-size": "--pp-size"},
	hidden: engine.FlagSet{Defs: []engine.FlagDef{
		{Names: []string{"--model-type"}, Value: "BACKEND"}, // cli/serve.py takes it away before the parser sees it
	}},
	owned: []ownedFlag{
		{[]string{"--model-path", "--model"}, adviceModel},
		{[]string{"--revision"}, adviceRevision},
		{[]string{"--host"}, adviceHost},
		{[]string{"--port"}, advicePort},
		{[]string{"--api-key", "--admin-api-key", "--ssl-keyfile-password"}, "a key on the command line can be read by every user of this machine; put a proxy that asks for it in front of the engine"},
		{[]string{"--base-gpu-id", "--gpu-id-step"}, adviceDevices},
		{[]string{"--config"}, adviceFile},
		{[]string{"--grpc-mode", "--smg-grpc-mode"}, adviceNoServer},
		{[]string{"--nnodes", "--node-rank", "--dist-init-addr", "--nccl-init-addr"}, adviceNodes},
		{[]string{"--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs"}, adviceTLS},
		{[]string{"-h", "--help"}, adviceExit},
	},
	alone: map[string]func(string) bool{"--nnodes": exactly("1"), "--node-rank": exactly("0"), "--dist-init-addr": onLoopback},
	ownedEnv: map[string]string{
		"SGL_FORCE_SHUTDOWN":                       "it would cut off what is in flight; remove it, or shorten \"stop.grace\"",
		"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "a server whose scheduler is dead would look healthy; remove it",
	},
	changes: []flagChange{
		// Refused with these words by the versions that know them at all (server_args.py, DeprecatedAction).
		{old: []string{"--enable-ep-moe"}, since: 1, advice: `write "--ep-size" with the number of GPUs`},
		{old: []string{"--enable-deepep-moe"}, to: []string{"--moe-a2a-backend", "deepep"}, since: 1},
		{old: []string{"--enable-flashinfer-cutlass-moe"}, to: []string{"--moe-runner-backend", "flashinfer_cutlass"}, since: 1},
		{old: []string{"--enable-flashinfer-trtllm-moe"}, to: []string{"--moe-runner-backend", "flashinfer_trtllm"}, since: 1},
		{old: []string{"--enable-triton-kernel-moe"}, to: []string{"--moe-runner-backend", "triton_kernel"}, since: 1},
		{old: []string{"--enable-flashinfer-mla"}, to: []string{"--attention-backend", "flashinfer"}, since: 1},
		{old: []string{"--enable-flashmla"}, to: []string{"--attention-backend", "flashmla"}, since: 1},
		{old: []string{"--disable-mla"}, since: 1, advice: "leave it out: there is no other way any more"},
		{old: []string{"--disable-flashinfer"}, since: 1, advice: `write "--attention-backend triton"`},
		// Aliases from #23906 on, which 0.5.23 has no more.
		{old: []string{"--cuda-graph-max-bs"}, values: 1, to: []string{"--cuda-graph-max-bs-decode"}, since: 5023},
		{old: []string{"--cuda-graph-bs"}, values: 1, many: true, to: []string{"--cuda-graph-bs-decode"}, since: 5023},
		{old: []string{"--piecewise-cuda-graph-max-tokens"}, values: 1, to: []string{"--cuda-graph-max-bs-prefill"}, since: 5023},
		{old: []string{"--piecewise-cuda-graph-tokens"}, values: 1, many: true, to: []string{"--cuda-graph-bs-prefill"}, since: 5023},
		{old: []string{"--disable-piecewise-cuda-graph"}, to: []string{"--cuda-graph-backend-prefill", "disabled"}, since: 5023},
		{old: []string{"--enable-breakable-cuda-graph"}, to: []string{"--cuda-graph-backend-prefill", "breakable"}, since: 5023},
		{
			old: []string{"--enable-piecewise-cuda-graph", "--enforce-piecewise-cuda-graph"}, since: 5023,
			advice: `leave it out, or write "--cuda-graph-backend-prefill"`,
		},
		{
			old: []string{"--piecewise-cuda-graph-compiler"}, values: 1, since: 5023,
			advice: "leave it out: there is one way to compile them",
		},
		{old: []string{"--nsa-prefill-backend"}, values: 1, to: []string{"--dsa-prefill-backend"}, since: 5023},
		{old: []string{"--nsa-decode-backend"}, values: 1, to: []string{"--dsa-decode-backend"}, since: 5023},
		{old: []string{"--mamba-scheduler-strategy"}, values: 1, to: []string{"--mamba-radix-cache-strategy"}, since: 5023},
		{old: []string{"--stream-output"}, to: []string{"--incremental-streaming-output"}, since: 5023},
		{
			old: []string{"--enable-prefill-context-parallel", "--enable-nsa-prefill-context-parallel"},
			to:  []string{"--enable-prefill-cp"}, since: 5023,
		},
		{
			old: []string{"--prefill-round-robin-balance", "--collect-tokens-histogram"}, since: 5023,
			advice: "leave it out: it has no effect any more",
		},
	},
	// The help of 0.5.23.
	deprecated: map[string]string{
		"--enable-dp-attention": `"--attn-dp-size" says the same together with "--dp-size"`,
		"--disable-cuda-graph":  `"--cuda-graph-backend-decode=disabled" and "--cuda-graph-backend-prefill=disabled" say the same`,
		"--monokernel-backend":  `"--enable-amd-monokernel" says the same`,
	},
	defaults: []flagDefault{
		{subjects: []string{"enable-metrics"}, args: [][]string{{"--enable-metrics"}}, note: "for monitoring"},
	},
}
