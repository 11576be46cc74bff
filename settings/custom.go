package settings

import "github.com/llama-orch/engine-provisioner/engine"

// Custom describes a server that this package does not know: how it is run, and where it is asked. It belongs to
// the engine "custom". Answers are expected over HTTP on the replica's host and port.
type Custom struct {
	// Command is the program and its arguments, run without a shell in the file's folder (in Go: in Dir). The program is
	// a name that is looked up in PATH, or a path with a "/". In the arguments {host}, {port}, {devices} (the UUIDs of its
	// GPUs, with commas between) and {tmpdir} (a folder of this launch alone) are filled in, and {model} where it is a
	// whole element or follows "=": the path of a "local:" or "file:" model, else "model.id" as it is. The "flags" follow.
	Command []string `json:"command" validate:"omitempty,max=1024"`
	// Env are variables for a server that takes its address or its model from there: text with the placeholders of
	// Command, except {tmpdir}, which is in TMPDIR.
	Env map[string]string `json:"env,omitempty"`
	// KeyEnv names the variable through which the server takes the "api_key". Left out, it takes none.
	KeyEnv string `json:"key_env,omitempty"`
	// Health is the path that answers 200 once the server is ready, and 503 or nothing before. Left out, it is "/health".
	Health string `json:"health,omitempty"`
	// Version is where the server says its version. Left out, the version is unknown.
	Version *engine.Field `json:"version,omitempty"`
	// Metrics is the page of Prometheus text that must be there. Left out, there is none.
	Metrics *engine.MetricsContract `json:"metrics,omitempty"`
	// Gauges are series of the metrics page, there from the start on, whose sum is the number of requests in the server.
	// The drain waits until it is 0. Left out, no stop waits for requests.
	Gauges []string `json:"gauges,omitempty"`
	// Counters are series of the metrics page that rise with what the server does, such as tokens. A server that has requests
	// and whose counters stand still is wedged; see Liveness. Left out, that is not noticed.
	Counters []string `json:"counters,omitempty"`
	// Answer is a request that must be answered with a 2xx before the server counts as ready, such as one for one token.
	// {model} in its body is filled in. Left out, that proof is missing.
	Answer *engine.AnswerRequest `json:"answer,omitempty"`
	// OpenAI is the path below which the server has OpenAI's API, such as "/v1", which the handoff and the line of a ready
	// replica then tell. Left out, it has none.
	OpenAI string `json:"openai,omitempty"`
	// Grace is the time between SIGTERM and SIGKILL where "stop.grace" says nothing. Left out, it is 5 seconds.
	Grace Duration `json:"grace,omitempty" validate:"min=0"`
	// Aliases are other spellings of flags, as keys, and what is passed instead: {-p: --parallel} also makes
	// "--parallel=2" of "-p=2".
	Aliases map[string]string `json:"aliases,omitempty"`
}
