package llamacpp

import (
	_ "embed"
	"strings"
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
)

// flagsText is the help of llama-server b11669 without its descriptions. It tells which flags take a value where
// the help of the executable itself is not at hand. TestBuiltinFlags of the root rewrites it.
//
//go:embed flags.txt
var flagsText string

// builtinFlags is the newest set of flags known to this package.
var builtinFlags = sync.OnceValue(func() engine.FlagSet { return flagline.ParseLlama(flagsText) })

// dialect is llama-server's command line.
var dialect = flagline.Dialect{
	Program:    "llama-server",
	Commands:   []flagline.Command{{Name: "llama-server"}, {Name: "llama", Subcommand: "serve"}},
	Builtin:    builtinFlags,
	Newest:     11669,
	Pinned:     pinned,
	Canonical:  canonical,
	Owned:      owned,
	Repeatable: repeatable,
	Changes:    changes,
	United:     loadModes,
	Defaults:   defaults,
	Bridged:    map[string]string{"-fa": "on, off or auto", "--flash-attn": "on, off or auto"},
	OwnedEnv: map[string]string{
		"LLAMA_API_KEY":       flagline.AdviceKeyEnv,
		"LLAMA_ARG_DRAFT_MAX": adviceDraftEnv + `"--draft-max"`,
		"LLAMA_ARG_DRAFT_MIN": adviceDraftEnv + `"--draft-min"`,
		// llama-server then takes its port from AIP_HTTP_PORT (server-http.cpp of b10587).
		"AIP_MODE": "it would change the engine's port; remove it",
	},
	EnvPrefix: "LLAMA_ARG_",
	Bridge:    flashAttn,
	Value:     checkValue,
}

// canonical maps the spellings of what our defaults are about, and those that people write but llama-server never
// had, to one.
var canonical = map[string]string{
	"-ngl": "--n-gpu-layers", "--gpu-layers": "--n-gpu-layers", "--ngl": "--n-gpu-layers",
	"-np": "--parallel", "-cb": "--cont-batching", "-nocb": "--no-cont-batching",
}

// defaults are what a user most often wants of one replica in a pool.
var defaults = []flagline.Default{
	{Subjects: []string{"parallel"}, Args: [][]string{{"--parallel", "1"}}, Note: "one request at a time, with the whole context"},
	{Subjects: []string{"cont-batching"}, Args: [][]string{{"--no-cont-batching"}}, Note: "nothing to batch with one slot", When: oneSlot},
	{Subjects: []string{"metrics"}, Args: [][]string{{"--metrics"}}, Note: "for monitoring, and to drain before a stop"},
	{Subjects: []string{"webui", "ui"}, Args: [][]string{{"--no-webui"}, {"--no-ui"}}, Note: "only the API is used"},
	{
		Subjects: []string{"spec-type"}, Args: [][]string{{"--spec-type", "draft-simple"}}, When: draftsUntold,
		Note: "a draft model does nothing without it since b8955",
	},
}

// oneSlot reports whether the engine answers one request at a time. A word of the user's that is no number, or that
// leaves it to the engine (-1), is none for one.
func oneSlot(m *flagline.Line) bool { return !m.Says("parallel") || m.Said("parallel") == "1" }

// draftsUntold reports whether there is a draft model, and nothing says how it drafts.
func draftsUntold(m *flagline.Line) bool {
	return m.Says("spec-draft-model", "model-draft", "spec-draft-hf", "hf-repo-draft") && !m.Says("spec-default")
}

// loadModes are what the flags say together that became --load-mode (llama.cpp #20834).
var loadModes = map[string]string{
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
func draftLimit(end string) func(m *flagline.Line) []string {
	return func(m *flagline.Line) []string {
		for kind := range strings.SplitSeq(m.SaidAnywhere("spec-type"), ",") {
			if flag := "--spec-" + kind + "-n-" + end; m.Has(flag) {
				return []string{flag}
			}
		}
		return []string{"--spec-draft-n-" + end}
	}
}

// ngramSetting gives a setting of all kinds that look n-grams up to the kind in use; nil where none that has it is.
func ngramSetting(ends ...string) func(m *flagline.Line) []string {
	return func(m *flagline.Line) []string {
		for kind := range strings.SplitSeq(m.SaidAnywhere("spec-type"), ",") {
			for _, end := range ends {
				if flag := "--spec-" + kind + "-" + end; m.Has(flag) {
					return []string{flag}
				}
			}
		}
		return nil
	}
}

const (
	// Whatever they are asked, --version included.
	adviceDraftEnv = "builds since b8955 end at it; write the flag "
	advicePrefix   = "it moves the paths that readiness is asked on; put the prefix into a proxy in front of the engine"
	adviceRouter   = "a replica serves one model and not a router; make a pool for each model"
	advicePreset   = `it chooses the model by itself; write "model: {id: …}"`
)

// owned are flags that a user may not give, and what to write instead.
var owned = []flagline.Owned{
	{Names: []string{"-m", "--model"}, Advice: flagline.AdviceModel},
	{Names: []string{"-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-mu", "--model-url", "-dr", "--docker-repo"}, Advice: flagline.AdviceModel},
	{Names: []string{"--host"}, Advice: flagline.AdviceHost},
	{Names: []string{"--port"}, Advice: flagline.AdvicePort},
	{Names: []string{"--reuse-port"}, Advice: `two engines would share one port unseen; give each its own "port"`},
	{Names: []string{"--api-key", "--api-key-file"}, Advice: flagline.AdviceKey},
	{Names: []string{"-hft", "--hf-token"}, Advice: flagline.AdviceToken},
	{Names: []string{"--models-dir", "--models-preset", "--models-max", "--models-autoload"}, Advice: adviceRouter},
	{Names: []string{"--api-prefix"}, Advice: advicePrefix},
	{Names: []string{"--ssl-key-file", "--ssl-cert-file"}, Advice: flagline.AdviceTLS},
	{Names: []string{"--log-file", "--log-disable"}, Advice: flagline.AdviceLog},
	{Names: []string{
		"-h", "--help", "--usage", "--version", "-cl", "--cache-list", "--completion-bash", "--list-devices", "--license",
	}, Advice: flagline.AdviceExit},
	{Names: []string{
		"--embd-bge-small-en-default", "--embd-e5-small-en-default", "--embd-gte-small-default", "--embd-gemma-default",
		"--fim-qwen-1.5b-default", "--fim-qwen-3b-default", "--fim-qwen-7b-default", "--fim-qwen-7b-spec",
		"--fim-qwen-14b-spec", "--fim-qwen-30b-default", "--gpt-oss-20b-default", "--gpt-oss-120b-default",
		"--vision-gemma-4b-default", "--vision-gemma-12b-default",
	}, Advice: advicePreset},
}

// repeatable are subjects that add up when they are repeated; of all others llama-server takes the last.
var repeatable = []string{
	"lora", "lora-scaled", "control-vector", "control-vector-scaled", "override-kv", "override-tensor",
	"spec-draft-override-tensor", "override-tensor-draft", "logit-bias", "dry-sequence-breaker", "reverse-prompt",
}

// changes are the changes that matter to configurations in use, with llama.cpp's pull request.
var changes = []flagline.Change{
	// Never existed.
	{Old: []string{"--ngl"}, Values: 1, To: []string{"--n-gpu-layers"}, Since: 1},
	// #20834.
	{Old: []string{"--no-mmap"}, To: []string{"--load-mode", "none"}, Since: 10884, Env: "LLAMA_ARG_NO_MMAP"},
	{Old: []string{"--mmap"}, To: []string{"--load-mode", "mmap"}, Since: 10884, Env: "LLAMA_ARG_MMAP"},
	{Old: []string{"--mlock"}, To: []string{"--load-mode", "mmap+mlock"}, Since: 10884, Env: "LLAMA_ARG_MLOCK"},
	{Old: []string{"-dio", "--direct-io"}, To: []string{"--load-mode", "dio"}, Since: 10884, Env: "LLAMA_ARG_DIO"},
	{Old: []string{"-ndio", "--no-direct-io"}, To: []string{"--load-mode", "auto"}, Since: 10884},
	// The variable became LLAMA_ARG_MMPROJ_AUTO; the flag is as it was.
	{Old: []string{"--no-mmproj"}, To: []string{"--no-mmproj"}, Env: "LLAMA_ARG_NO_MMPROJ"},
	// #22397.
	{
		Old: []string{"--draft-max", "--draft", "--draft-n"}, Values: 1, To: []string{"--spec-draft-n-max"}, Since: 8955,
		Env: "LLAMA_ARG_DRAFT_MAX", Suits: draftLimit("max"),
	},
	{
		Old: []string{"--draft-min", "--draft-n-min"}, Values: 1, To: []string{"--spec-draft-n-min"}, Since: 8955,
		Env: "LLAMA_ARG_DRAFT_MIN", Suits: draftLimit("min"),
	},
	// Their variables have other names since #22397; the flags are as they were.
	{Old: []string{"--model-draft"}, Values: 1, To: []string{"--model-draft"}, Since: 8955, Env: "LLAMA_ARG_MODEL_DRAFT"},
	{Old: []string{"--hf-repo-draft"}, Values: 1, To: []string{"--hf-repo-draft"}, Since: 8955, Env: "LLAMA_ARG_HFD_REPO"},
	{Old: []string{"--draft-p-min"}, Values: 1, To: []string{"--draft-p-min"}, Since: 8955, Env: "LLAMA_ARG_DRAFT_P_MIN"},
	{Old: []string{"--draft-p-split"}, Values: 1, To: []string{"--draft-p-split"}, Since: 8955, Env: "LLAMA_ARG_DRAFT_P_SPLIT"},
	{Old: []string{"--cache-type-k-draft"}, Values: 1, To: []string{"--cache-type-k-draft"}, Since: 8955, Env: "LLAMA_ARG_CACHE_TYPE_K_DRAFT"},
	{Old: []string{"--cache-type-v-draft"}, Values: 1, To: []string{"--cache-type-v-draft"}, Since: 8955, Env: "LLAMA_ARG_CACHE_TYPE_V_DRAFT"},
	{Old: []string{"--n-cpu-moe-draft"}, Values: 1, To: []string{"--n-cpu-moe-draft"}, Since: 8955, Env: "LLAMA_ARG_N_CPU_MOE_DRAFT"},
	{Old: []string{"--cpu-moe-draft"}, To: []string{"--cpu-moe-draft"}, Since: 8955, Env: "LLAMA_ARG_CPU_MOE_DRAFT"},
	// b11669 is the first build that is known to be without it.
	{Old: []string{"-cd", "--ctx-size-draft"}, Values: 1, Since: 11669, Advice: "leave it out: the context of a draft model follows the model's"},
	{Old: []string{"-cnv", "--conversation"}, Since: 1, Advice: "leave it out: it belongs to llama-cli"},
	// #23064 renamed these; the old ones are still accepted, so only the help can tell.
	{Old: []string{"--no-webui"}, To: []string{"--no-ui"}, Env: "LLAMA_ARG_NO_WEBUI"},
	{Old: []string{"--webui"}, To: []string{"--ui"}},
	// Builds before #23064.
	{Old: []string{"--no-ui"}, To: []string{"--no-webui"}},
	{Old: []string{"--ui"}, To: []string{"--webui"}},
	// #15630.
	{Old: []string{"--slots-endpoint-disable"}, To: []string{"--no-slots"}, Since: 1},
	{
		Old: []string{"--spec-ngram-size-n"}, Values: 1, Since: 8955, Suits: ngramSetting("size-n", "n-match"),
		Advice: `write that of the kind in use, such as "--spec-ngram-simple-size-n"`,
	},
	{
		Old: []string{"--spec-ngram-size-m"}, Values: 1, Since: 8955, Suits: ngramSetting("size-m"),
		Advice: `write that of the kind in use, such as "--spec-ngram-simple-size-m"`,
	},
	{
		Old: []string{"--spec-ngram-min-hits"}, Values: 1, Since: 8955, Suits: ngramSetting("min-hits"),
		Advice: `write that of the kind in use, such as "--spec-ngram-simple-min-hits"`,
	},
	{Old: []string{"--log-format"}, Values: 1, Since: 1, Advice: `leave it out, or write "--log-jsonl" for JSON`},
	{Old: []string{"-spf", "--system-prompt-file"}, Values: 1, Since: 1, Advice: "send the system prompt with each request"},
	{Old: []string{"-gan", "--grp-attn-n"}, Values: 1, Since: 1, Advice: `leave it out; "--rope-scaling" extends a context`},
	{Old: []string{"-gaw", "--grp-attn-w"}, Values: 1, Since: 1, Advice: `leave it out; "--rope-scaling" extends a context`},
	{Old: []string{"-ns", "--sequences"}, Values: 1, Since: 1, Advice: `write "--parallel" for the number of slots`},
}
