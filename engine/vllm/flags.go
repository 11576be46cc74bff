package vllm

import (
	_ "embed"
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/internal/python"
)

// flagsText is the help of vLLM 0.33.0 without its descriptions. TestBuiltinFlags of the root rewrites it.
//
//go:embed flags.txt
var flagsText string

var builtinFlags = sync.OnceValue(func() engine.FlagSet { return flagline.ParseArgparse(flagsText) })

// dialect is the command line of "vllm serve". Its parser (argparse_utils.py of 0.33.0) takes "_" for "-", the
// beginning of a name, "--flag=value", "-O3", and "--flag.key value" for a key of JSON.
var dialect = flagline.Dialect{
	Program:    "vllm",
	Commands:   []flagline.Command{{Name: "vllm", Subcommand: "serve"}, {Name: "vllm.entrypoints.openai.api_server"}, {Name: "vllm.entrypoints.cli.main", Subcommand: "serve"}},
	Positional: true,
	Builtin:    builtinFlags,
	Newest:     33000,
	Pinned:     python.Pinned("vllm", "vllm-openai"),
	Joined:     true,
	Prefixes:   true,
	Dotted:     true,
	Hidden: engine.FlagSet{Defs: []engine.FlagDef{
		{Names: []string{"-O"}, Value: "LEVEL"},
		{Names: []string{"-v", "--version"}},
	}},
	Owned: []flagline.Owned{
		{Names: []string{"--model"}, Advice: flagline.AdviceModel},
		{Names: []string{"--revision"}, Advice: python.AdviceRevision},
		{Names: []string{"--host"}, Advice: flagline.AdviceHost},
		{Names: []string{"--port"}, Advice: flagline.AdvicePort},
		{Names: []string{"--uds"}, Advice: "a replica listens on a port; remove the flag"},
		{Names: []string{"--api-key"}, Advice: flagline.AdviceKey},
		{Names: []string{"--hf-token"}, Advice: flagline.AdviceToken},
		{Names: []string{"--device-ids"}, Advice: flagline.AdviceDevices},
		{Names: []string{"--config"}, Advice: flagline.AdviceFile},
		{Names: []string{"--grpc", "--headless"}, Advice: python.AdviceNoServer},
		{Names: []string{"--nnodes", "-n", "--node-rank", "-r", "--data-parallel-address", "-dpa"}, Advice: python.AdviceNodes},
		{Names: []string{"--data-parallel-multi-port-external-lb", "-dpm"}, Advice: "its ports beside the configured one are not watched; make a pool with replicas"},
		{Names: []string{"--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs"}, Advice: flagline.AdviceTLS},
		{Names: []string{"--log-config-file"}, Advice: flagline.AdviceLog},
		{Names: []string{"-h", "--help", "-v", "--version"}, Advice: flagline.AdviceExit},
	},
	Alone: map[string]func(string) bool{
		"--nnodes": flagline.Exactly("1"), "--node-rank": flagline.Exactly("0"), "--data-parallel-address": flagline.OnLoopback,
	},
	OwnedEnv: map[string]string{
		// envs.py: a Service of Kubernetes named vllm sets it to "tcp://…", which ends the start.
		"VLLM_PORT":                       `it is no port for clients but the first of vLLM's internal ones, and two replicas would share it; write "port"`,
		"VLLM_API_KEY":                    flagline.AdviceKeyEnv,
		"VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": "a server without its engine would look alive; remove it",
		"VLLM_LOGGING_CONFIG_PATH":        flagline.AdviceLog,
		"VLLM_CONFIGURE_LOGGING":          flagline.AdviceLog,
	},
	// arg_utils.py of 0.32.0.
	Deprecated: map[string]string{"--disable-cascade-attn": "it has no effect, and 0.33.0 has it no more"},
	Changes: []flagline.Change{
		// #21739, removed in 0.12.0 (#29402).
		{Old: []string{"--disable-log-requests"}, To: []string{"--no-enable-log-requests"}, Since: 12000},
		// #22772, removed in 0.12.0 (#29326).
		{Old: []string{"--guided-decoding-backend"}, Values: 1, To: []string{"--structured-outputs-config.backend"}, Since: 12000},
		// Gone from EngineArgs in 0.18.0.
		{Old: []string{"--swap-space"}, Values: 1, Since: 18000, Advice: "leave it out: vLLM computes again what it evicts"},
		{Old: []string{"--device"}, Values: 1, Since: 15000, Advice: `leave it out: the build decides; "gpu: none" hides the GPUs`},
		// argparse_utils.py of 0.32.0.
		{Old: []string{"--task"}, Values: 1, Since: 15000, Advice: `write "--runner pooling", and "--convert embed" or "--convert classify" to adapt a generative model`},
		// #20725 and those that followed it removed the first engine.
		{Old: []string{"--use-v2-block-manager"}, Since: 15000, Advice: "leave it out: there is no other one"},
		{Old: []string{"--num-scheduler-steps"}, Values: 1, Since: 15000, Advice: "leave it out: it belonged to the first engine of vLLM"},
		// Flags of their own until 0.8.
		{
			Old: []string{"--speculative-model"}, Values: 1, Since: 9000,
			Advice: `write "--speculative-config.model", with the method and the number of tokens as further keys`,
		},
		{
			Old: []string{"--num-speculative-tokens"}, Values: 1, Since: 9000,
			Advice: `write "--speculative-config.num_speculative_tokens"`,
		},
		{
			Old: []string{"--ngram-prompt-lookup-max"}, Values: 1, Since: 9000,
			Advice: `write "--speculative-config.prompt_lookup_max"`,
		},
		{
			Old: []string{"--ngram-prompt-lookup-min"}, Values: 1, Since: 9000,
			Advice: `write "--speculative-config.prompt_lookup_min"`,
		},
		{
			Old: []string{"--speculative-draft-tensor-parallel-size"}, Values: 1, Since: 9000,
			Advice: `write "--speculative-config.draft_tensor_parallel_size"`,
		},
		// Later ones of the same kind; the first known help without them is that of 0.32.0.
		{Old: []string{"--worker-use-ray"}, To: []string{"--distributed-executor-backend", "ray"}, Since: 12000},
		{Old: []string{"--disable-mm-preprocessor-cache"}, To: []string{"--mm-processor-cache-gb", "0"}, Since: 32000},
		{Old: []string{"--override-pooler-config"}, Values: 1, To: []string{"--pooler-config"}, Since: 32000},
		{
			Old:   []string{"--engine-use-ray", "--disable-async-output-proc", "--disable-frontend-multiprocessing", "--enable-prompt-adapter"},
			Since: 12000, Advice: "leave it out: it belonged to the first engine of vLLM",
		},
		{
			Old:    []string{"--preemption-mode", "--num-lookahead-slots", "--tokenizer-pool-size", "--scheduler-delay-factor"},
			Values: 1, Since: 12000, Advice: "leave it out: it belonged to the first engine of vLLM",
		},
		{Old: []string{"--enable-multimodal-encoder-data-parallel"}, To: []string{"--mm-encoder-tp-mode", "data"}, Since: 32000},
		{Old: []string{"--num-redundant-experts"}, Values: 1, To: []string{"--eplb-config.num_redundant_experts"}, Since: 32000},
		{Old: []string{"--calculate-kv-scales"}, Since: 32000, Advice: "leave it out: scales come with the checkpoint"},
		// #18404.
		{Old: []string{"--enable-reasoning"}, Since: 10000, Advice: `leave it out: "--reasoning-parser" alone says it`},
		// #28006.
		{Old: []string{"--rope-scaling"}, Values: 1, Since: 12000, Advice: `write "--hf-overrides" with it as "rope_parameters"`},
		{Old: []string{"--rope-theta"}, Values: 1, Since: 12000, Advice: `write "--hf-overrides" with it in "rope_parameters"`},
		{
			Old: []string{"--max-seq-len-to-capture"}, Values: 1, Since: 11001,
			Advice: `write "--compilation-config.max_cudagraph_capture_size", or leave it out`,
		},
		{
			Old: []string{"--cuda-graph-sizes"}, Values: 1, Since: 11001,
			Advice: `write "--compilation-config.cudagraph_capture_sizes" with a list`,
		},
	},
}
