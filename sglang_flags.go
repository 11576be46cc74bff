package provisioner

import (
	_ "embed"
	"strings"
	"sync"
)

// sglangFlagsText is the help of SGLang 0.5.23 without its descriptions. TestBuiltinFlags rewrites it.
//
//go:embed sglang_flags.txt
var sglangFlagsText string

var builtinSGLangFlags = sync.OnceValue(func() FlagSet { return parseArgparseHelp(sglangFlagsText) })

// parseSGLangHelp leaves out the server for images and videos, whose help follows.
func parseSGLangHelp(output string) FlagSet {
	output, _, _ = strings.Cut(output, "--- Help for Diffusion Model Server ---")
	return parseArgparseHelp(output)
}

// sglangDialect is the command line of "sglang serve": Python's argparse, which takes the beginning of a name and
// "--flag=value".
var sglangDialect = flagDialect{
	program:   "sglang",
	builtin:   builtinSGLangFlags,
	newest:    5023,
	pinned:    pinnedPython("sglang"),
	joined:    true,
	prefixes:  true,
	canonical: map[string]string{"--tensor-parallel-size": "--tp-size", "--data-parallel-size": "--dp-size", "--pipeline-parallel-size": "--pp-size"},
	hidden: FlagSet{Defs: []FlagDef{
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
