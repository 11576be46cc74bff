package provisioner

import (
	_ "embed"
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"
)

// vllmFlagsText is the help of vLLM 0.33.0 without its descriptions. TestBuiltinFlags rewrites it.
//
//go:embed vllm_flags.txt
var vllmFlagsText string

var builtinVLLMFlags = sync.OnceValue(func() engine.FlagSet { return parseArgparseHelp(vllmFlagsText) })

const (
	adviceRevision = `it is part of the model; write "model: {id: 'hf:owner/repository@revision'}"`
	adviceNoServer = "a replica is one server that answers over HTTP; remove the flag"
	adviceNodes    = "a replica runs on this node alone; remove the flag"
)

// vllmDialect is the command line of "vllm serve". Its parser (argparse_utils.py of 0.33.0) takes "_" for "-", the
// beginning of a name, "--flag=value", "-O3", and "--flag.key value" for a key of JSON.
var vllmDialect = flagDialect{
	program:  "vllm",
	builtin:  builtinVLLMFlags,
	newest:   33000,
	pinned:   pinnedVersion("vllm", "vllm-openai"),
	joined:   true,
	prefixes: true,
	dotted:   true,
	hidden: engine.FlagSet{Defs: []engine.FlagDef{
		{Names: []string{"-O"}, Value: "LEVEL"},
		{Names: []string{"-v", "--version"}},
	}},
	owned: []ownedFlag{
		{[]string{"--model"}, adviceModel},
		{[]string{"--revision"}, adviceRevision},
		{[]string{"--host"}, adviceHost},
		{[]string{"--port"}, advicePort},
		{[]string{"--uds"}, "a replica listens on a port; remove the flag"},
		{[]string{"--api-key"}, adviceKey},
		{[]string{"--hf-token"}, adviceToken},
		{[]string{"--device-ids"}, adviceDevices},
		{[]string{"--config"}, adviceFile},
		{[]string{"--grpc", "--headless"}, adviceNoServer},
		{[]string{"--nnodes", "-n", "--node-rank", "-r", "--data-parallel-address", "-dpa"}, adviceNodes},
		{[]string{"--data-parallel-multi-port-external-lb", "-dpm"}, "its ports beside the configured one are not watched; make a pool with replicas"},
		{[]string{"--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs"}, adviceTLS},
		{[]string{"--log-config-file"}, adviceLog},
		{[]string{"-h", "--help", "-v", "--version"}, adviceExit},
	},
	alone: map[string]func(string) bool{
		"--nnodes": exactly("1"), "--node-rank": exactly("0"), "--data-parallel-address": onLoopback,
	},
	ownedEnv: map[string]string{
		// envs.py: a Service of Kubernetes named vllm sets it to "tcp://…", which ends the start.
		"VLLM_PORT":                       `it is no port for clients but the first of vLLM's internal ones, and two replicas would share it; write "port"`,
		"VLLM_API_KEY":                    adviceKeyEnv,
		"VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": "a server without its engine would look alive; remove it",
		"VLLM_LOGGING_CONFIG_PATH":        adviceLog,
		"VLLM_CONFIGURE_LOGGING":          adviceLog,
	},
	// arg_utils.py of 0.32.0.
	deprecated: map[string]string{"--disable-cascade-attn": "it has no effect, and 0.33.0 has it no more"},
	changes: []flagChange{
		// #21739, removed in 0.12.0 (#29402).
		{old: []string{"--disable-log-requests"}, to: []string{"--no-enable-log-requests"}, since: 12000},
		// #22772, removed in 0.12.0 (#29326).
		{old: []string{"--guided-decoding-backend"}, values: 1, to: []string{"--structured-outputs-config.backend"}, since: 12000},
		// Gone from EngineArgs in 0.18.0.
		{old: []string{"--swap-space"}, values: 1, since: 18000, advice: "leave it out: vLLM computes again what it evicts"},
		{old: []string{"--device"}, values: 1, since: 15000, advice: `leave it out: the build decides; "gpu: none" hides the GPUs`},
		// argparse_utils.py of 0.32.0.
		{old: []string{"--task"}, values: 1, since: 15000, advice: `write "--runner pooling", and "--convert embed" or "--convert classify" to adapt a generative model`},
		// #20725 and those that followed it removed the first engine.
		{old: []string{"--use-v2-block-manager"}, since: 15000, advice: "leave it out: there is no other one"},
		{old: []string{"--num-scheduler-steps"}, values: 1, since: 15000, advice: "leave it out: it belonged to the first engine of vLLM"},
		// Flags of their own until 0.8.
		{
			old: []string{"--speculative-model"}, values: 1, since: 9000,
			advice: `write "--speculative-config.model", with the method and the number of tokens as further keys`,
		},
		{
			old: []string{"--num-speculative-tokens"}, values: 1, since: 9000,
			advice: `write "--speculative-config.num_speculative_tokens"`,
		},
		// #18404.
		{old: []string{"--enable-reasoning"}, since: 10000, advice: `leave it out: "--reasoning-parser" alone says it`},
		// #28006.
		{old: []string{"--rope-scaling"}, values: 1, since: 12000, advice: `write "--hf-overrides" with it as "rope_parameters"`},
		{old: []string{"--rope-theta"}, values: 1, since: 12000, advice: `write "--hf-overrides" with it in "rope_parameters"`},
		{
			old: []string{"--max-seq-len-to-capture"}, values: 1, since: 11001,
			advice: `write "--compilation-config.max_cudagraph_capture_size", or leave it out`,
		},
		{
			old: []string{"--cuda-graph-sizes"}, values: 1, since: 11001,
			advice: `write "--compilation-config.cudagraph_capture_sizes" with a list`,
		},
	},
}
