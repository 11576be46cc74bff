package provisioner

import (
	_ "embed"
	"strings"
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"
)

// llamaFlagsText is the help of llama-server b11669 without its descriptions. It tells which flags take a value where
// the help of the executable itself is not at hand. TestBuiltinFlags rewrites it.
//
//go:embed llamacpp_flags.txt
var llamaFlagsText string

// builtinLlamaFlags is the newest set of flags known to this package.
var builtinLlamaFlags = sync.OnceValue(func() engine.FlagSet { return parseLlamaHelp(llamaFlagsText) })

// llamaDialect is llama-server's command line.
var llamaDialect = flagDialect{
	program:    "llama-server",
	builtin:    builtinLlamaFlags,
	newest:     11669,
	pinned:     pinnedLlama,
	canonical:  llamaCanonical,
	owned:      llamaOwned,
	repeatable: llamaRepeatable,
	changes:    llamaChanges,
	united:     llamaLoadModes,
	defaults:   llamaDefaults,
	bridged:    map[string]string{"-fa": "on, off or auto", "--flash-attn": "on, off or auto"},
	ownedEnv: map[string]string{
		"LLAMA_API_KEY": adviceKeyEnv,
		// llama-server then takes its port from AIP_HTTP_PORT (server-http.cpp of b10587).
		"AIP_MODE": "it would change the engine's port; remove it",
	},
	envPrefix: "LLAMA_ARG_",
	bridge:    llamaFlashAttn,
	value:     llamaValue,
}

// llamaCanonical maps the spellings of what our defaults are about, and those that people write but llama-server never
// had, to one.
var llamaCanonical = map[string]string{
	"-ngl": "--n-gpu-layers", "--gpu-layers": "--n-gpu-layers", "--ngl": "--n-gpu-layers",
	"-np": "--parallel", "-cb": "--cont-batching", "-nocb": "--no-cont-batching",
}

// llamaDefaults are what a user most often wants of one replica in a pool.
var llamaDefaults = []flagDefault{
	{subjects: []string{"parallel"}, args: [][]string{{"--parallel", "1"}}, note: "one request at a time, with the whole context"},
	{subjects: []string{"cont-batching"}, args: [][]string{{"--no-cont-batching"}}, note: "nothing to batch with one slot", when: oneSlot},
	{subjects: []string{"metrics"}, args: [][]string{{"--metrics"}}, note: "for monitoring, and to drain before a stop"},
	{subjects: []string{"webui", "ui"}, args: [][]string{{"--no-webui"}, {"--no-ui"}}, note: "only the API is used"},
	{
		subjects: []string{"spec-type"}, args: [][]string{{"--spec-type", "draft-simple"}}, when: draftsUntold,
		note: "a draft model does nothing without it since b8955",
	},
}

// oneSlot reports whether the engine answers one request at a time. A word of the user's that is no number, or that
// leaves it to the engine (-1), is none for one.
func oneSlot(m *flagMerge) bool { return !m.says("parallel") || m.said("parallel") == "1" }

// draftsUntold reports whether there is a draft model, and nothing says how it drafts.
func draftsUntold(m *flagMerge) bool {
	return m.says("spec-draft-model", "model-draft", "spec-draft-hf", "hf-repo-draft") && !m.says("spec-default")
}

// llamaLoadModes are what the flags say together that became --load-mode (llama.cpp #20834).
var llamaLoadModes = map[string]string{
	"none mmap+mlock": "mlock", "mmap+mlock none": "mlock",
	"mmap mmap+mlock": "mmap+mlock", "mmap+mlock mmap": "mmap+mlock",
	"none dio": "dio", "dio none": "dio", // direct reads map nothing
	// Nothing keeps in RAM what is read directly; what is kept counts for more than how it was read.
	"mmap+mlock dio": "mlock", "dio mmap+mlock": "mlock", "mlock dio": "mlock", "mlock auto": "mlock",
	"none auto": "none", "auto none": "none", "mmap auto": "mmap", "auto mmap": "mmap", // no direct reads
	"mmap+mlock auto": "mmap+mlock", "auto mmap+mlock": "mmap+mlock",
}

// draftLimit gives the number of drafted tokens to the kind of speculation in use, as "--draft-max" did: each kind has had
// a flag of its own since #22397.
func draftLimit(end string) func(m *flagMerge) []string {
	return func(m *flagMerge) []string {
		for kind := range strings.SplitSeq(m.saidAnywhere("spec-type"), ",") {
			if flag := "--spec-" + kind + "-n-" + end; m.has(flag) {
				return []string{flag}
			}
		}
		return []string{"--spec-draft-n-" + end}
	}
}

// ngramSetting gives a setting of all kinds that look n-grams up to the kind in use; nil where none that has it is.
func ngramSetting(ends ...string) func(m *flagMerge) []string {
	return func(m *flagMerge) []string {
		for kind := range strings.SplitSeq(m.saidAnywhere("spec-type"), ",") {
			for _, end := range ends {
				if flag := "--spec-" + kind + "-" + end; m.has(flag) {
					return []string{flag}
				}
			}
		}
		return nil
	}
}

const (
	advicePrefix = "it moves the paths that readiness is asked on; put the prefix into a proxy in front of the engine"
	adviceRouter = "a replica serves one model and not a router; make a pool for each model"
	advicePreset = `it chooses the model by itself; write "model: {id: …}"`
)

// llamaOwned are flags that a user may not give, and what to write instead.
var llamaOwned = []ownedFlag{
	{[]string{"-m", "--model"}, adviceModel},
	{[]string{"-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-mu", "--model-url", "-dr", "--docker-repo"}, adviceModel},
	{[]string{"--host"}, adviceHost},
	{[]string{"--port"}, advicePort},
	{[]string{"--reuse-port"}, `two engines would share one port unseen; give each its own "port"`},
	{[]string{"--api-key", "--api-key-file"}, adviceKey},
	{[]string{"-hft", "--hf-token"}, adviceToken},
	{[]string{"--models-dir", "--models-preset", "--models-max", "--models-autoload"}, adviceRouter},
	{[]string{"--api-prefix"}, advicePrefix},
	{[]string{"--ssl-key-file", "--ssl-cert-file"}, adviceTLS},
	{[]string{"--log-file", "--log-disable"}, adviceLog},
	{[]string{
		"-h", "--help", "--usage", "--version", "-cl", "--cache-list", "--completion-bash", "--list-devices", "--license",
	}, adviceExit},
	{[]string{
		"--embd-bge-small-en-default", "--embd-e5-small-en-default", "--embd-gte-small-default", "--embd-gemma-default",
		"--fim-qwen-1.5b-default", "--fim-qwen-3b-default", "--fim-qwen-7b-default", "--fim-qwen-7b-spec",
		"--fim-qwen-14b-spec", "--fim-qwen-30b-default", "--gpt-oss-20b-default", "--gpt-oss-120b-default",
		"--vision-gemma-4b-default", "--vision-gemma-12b-default",
	}, advicePreset},
}

// llamaRepeatable are subjects that add up when they are repeated; of all others llama-server takes the last.
var llamaRepeatable = []string{
	"lora", "lora-scaled", "control-vector", "control-vector-scaled", "override-kv", "override-tensor",
	"spec-draft-override-tensor", "override-tensor-draft", "logit-bias", "dry-sequence-breaker", "reverse-prompt",
}

// llamaChanges are the changes that matter to configurations in use, with llama.cpp's pull request.
var llamaChanges = []flagChange{
	// Never existed.
	{old: []string{"--ngl"}, values: 1, to: []string{"--n-gpu-layers"}, since: 1},
	// #20834.
	{old: []string{"--no-mmap"}, to: []string{"--load-mode", "none"}, since: 10884, env: "LLAMA_ARG_NO_MMAP"},
	{old: []string{"--mmap"}, to: []string{"--load-mode", "mmap"}, since: 10884, env: "LLAMA_ARG_MMAP"},
	{old: []string{"--mlock"}, to: []string{"--load-mode", "mmap+mlock"}, since: 10884, env: "LLAMA_ARG_MLOCK"},
	{old: []string{"-dio", "--direct-io"}, to: []string{"--load-mode", "dio"}, since: 10884, env: "LLAMA_ARG_DIO"},
	{old: []string{"-ndio", "--no-direct-io"}, to: []string{"--load-mode", "auto"}, since: 10884},
	// The variable became LLAMA_ARG_MMPROJ_AUTO; the flag is as it was.
	{old: []string{"--no-mmproj"}, to: []string{"--no-mmproj"}, env: "LLAMA_ARG_NO_MMPROJ"},
	// #22397.
	{
		old: []string{"--draft-max", "--draft", "--draft-n"}, values: 1, to: []string{"--spec-draft-n-max"}, since: 8955,
		env: "LLAMA_ARG_DRAFT_MAX", suits: draftLimit("max"),
	},
	{
		old: []string{"--draft-min", "--draft-n-min"}, values: 1, to: []string{"--spec-draft-n-min"}, since: 8955,
		env: "LLAMA_ARG_DRAFT_MIN", suits: draftLimit("min"),
	},
	// b11669 is the first build that is known to be without it.
	{old: []string{"-cd", "--ctx-size-draft"}, values: 1, since: 11669, advice: "leave it out: the context of a draft model follows the model's"},
	{old: []string{"-cnv", "--conversation"}, since: 1, advice: "leave it out: it belongs to llama-cli"},
	// #23064 renamed these; the old ones are still accepted, so only the help can tell.
	{old: []string{"--no-webui"}, to: []string{"--no-ui"}, env: "LLAMA_ARG_NO_WEBUI"},
	{old: []string{"--webui"}, to: []string{"--ui"}},
	// Builds before #23064.
	{old: []string{"--no-ui"}, to: []string{"--no-webui"}},
	{old: []string{"--ui"}, to: []string{"--webui"}},
	// #15630.
	{old: []string{"--slots-endpoint-disable"}, to: []string{"--no-slots"}, since: 1},
	{
		old: []string{"--spec-ngram-size-n"}, values: 1, since: 8955, suits: ngramSetting("size-n", "n-match"),
		advice: `write that of the kind in use, such as "--spec-ngram-simple-size-n"`,
	},
	{
		old: []string{"--spec-ngram-size-m"}, values: 1, since: 8955, suits: ngramSetting("size-m"),
		advice: `write that of the kind in use, such as "--spec-ngram-simple-size-m"`,
	},
	{
		old: []string{"--spec-ngram-min-hits"}, values: 1, since: 8955, suits: ngramSetting("min-hits"),
		advice: `write that of the kind in use, such as "--spec-ngram-simple-min-hits"`,
	},
	{old: []string{"--log-format"}, values: 1, since: 1, advice: `leave it out, or write "--log-jsonl" for JSON`},
	{old: []string{"-spf", "--system-prompt-file"}, values: 1, since: 1, advice: "send the system prompt with each request"},
	{old: []string{"-gan", "--grp-attn-n"}, values: 1, since: 1, advice: `leave it out; "--rope-scaling" extends a context`},
	{old: []string{"-gaw", "--grp-attn-w"}, values: 1, since: 1, advice: `leave it out; "--rope-scaling" extends a context`},
	{old: []string{"-ns", "--sequences"}, values: 1, since: 1, advice: `write "--parallel" for the number of slots`},
}
