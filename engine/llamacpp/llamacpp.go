// Package llamacpp is the engine for llama.cpp's llama-server.
//
// It owns what is known of that program alone: its flags and how they changed from build to build, its defaults,
// releases, versions, memory and last words. The provisioner has it built in; who wants another one builds on [Engine].
// It is pure, like every engine: it touches no file, network, process or environment.
package llamacpp

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// Engine describes llama.cpp's llama-server.
type Engine struct{}

// The variable of the API key, which takes a list.
const (
	keyEnv       = "LLAMA_API_KEY"
	keySeparator = ","
)

// Name returns "llamacpp".
func (Engine) Name() string { return "llamacpp" }

// Dialect is how the command line is written.
func (Engine) Dialect() *flagline.Dialect { return &dialect }

// Program says how the executable is found and asked what it is.
func (Engine) Program(req engine.Request) engine.Program {
	image := engine.Image{Name: "ghcr.io/ggml-org/llama.cpp", Tag: "server-cuda", Executable: "/app/llama-server"}
	if req.GPU == engine.GPUNone {
		image.Tag = "server" // the one without CUDA
	}
	return engine.Program{
		Image:        image,
		Command:      "llama-server",
		SourceFlags:  sourceFlags,
		Release:      &release,
		Model:        engine.ModelGGUF,
		Port:         8080, // until 2026, and in everybody's notes
		VersionArgs:  []string{"--version"},
		ParseVersion: parseVersion,
		HelpArgs:     []string{"--help"},
		ParseHelp:    flagline.ParseLlama,
		DevicesArgs:  []string{"--list-devices"},
		ParseDevices: parseDevices,
	}
}

// garbled is what builds around b10068 to b10434 answer /completion with, status 500, when the text that came out is no whole
// character, as one token of a Chinese text or of an emoji may be. b11669 answers with it.
var garbled = lazyregexp.New(`The model produced output that does not match the expected`)

// answer is the question that proves that it works: for a token, unless it is there for something else. A b11669 that serves
// embeddings of a model with an output of its own, as most models for chat have, dies of a question for a token.
func answer(m *flagline.Line) *engine.AnswerRequest {
	switch {
	case m.Says("reranking", "rerank"):
		return &engine.AnswerRequest{Path: "/rerank", Body: `{"query":"Hi","documents":["Hi"]}`}
	case m.Says("embeddings", "embedding"):
		return &engine.AnswerRequest{Path: "/embedding", Body: `{"content":"Hi"}`}
	}
	return &engine.AnswerRequest{Path: "/completion", Body: `{"prompt":"Hi","n_predict":1,"cache_prompt":false}`}
}

// Launch puts the flags of the provisioner first, then its defaults, then the user's.
func (Engine) Launch(req engine.Request, host engine.Host) (engine.LaunchSpec, error) {
	m := dialect.Merge(req, host)
	readGPUEnv(m)
	if err := m.Err(); err != nil {
		return engine.LaunchSpec{}, err
	}
	m.AddDefaults()
	addLayers(m)

	spec := engine.LaunchSpec{
		Env:          offloadEnv(m),
		KeyEnv:       keyEnv,
		KeySeparator: keySeparator,
		Health:       "/health",
		OpenAI:       "/v1",
		Version:      engine.Field{Path: "/props", Key: "build_info"},
		Model:        engine.Field{Path: "/props", Key: "model_path"},
		Slots:        m.Count("parallel"),
		SlotsAt:      engine.Field{Path: "/props", Key: "total_slots"}, // "--parallel -1" is up to it
		Answer:       answer(m),
		Garbled:      garbled.Compiled(),
		Grace:        5 * time.Second,
		Causes:       causes(),
		Advice:       memoryAdvice(m),
		Offload:      offload.Compiled(),
		Buffers:      buffers.Compiled(),
		Devices:      devices.Compiled(),
		NoGPU:        noGPU.Compiled(),
	}
	model := []engine.Flag{{Args: []string{"--model", cmp.Or(host.ModelPath, req.Model.ID)}, Origin: engine.OriginProvisioner, Key: "model.id"}}
	noteBeside(m, host.Beside)
	spec.FetchesFromHub = m.Says("spec-draft-hf", "hf-repo-draft", "hf-repo-v", "mmproj-url")
	spec.Notes = m.Notes
	spec.Flags = slices.Concat(model, m.Address("--host"), m.Added, m.User)
	spec.GGUF = memoryOf(m, spec.Flags)
	if idle, err := strconv.Atoi(m.Said("sleep-idle-seconds")); err == nil && idle >= 0 {
		// Until llama.cpp#27376 (August 2026) the page was a task like any other; b10621 has it.
		spec.SleepsIdle, spec.MetricsWake = true, host.Binary.Build < 10621
	}
	if m.Says("sleep-idle-seconds") { // no other one sleeps, and need not be asked before each look at its metrics
		spec.Asleep = engine.Field{Path: "/props", Key: "is_sleeping"}
	}
	if m.On("--metrics") {
		// These four are there since the page exists; others came and went.
		spec.Metrics = &engine.MetricsContract{Path: "/metrics", Required: []string{
			"llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total",
			"llamacpp:requests_processing", "llamacpp:requests_deferred",
		}}
		spec.Gauges = &engine.Gauges{Path: "/metrics", Names: []string{"llamacpp:requests_processing", "llamacpp:requests_deferred"}, Waiting: []string{"llamacpp:requests_deferred"}}
		// Tokens are counted when a request is over, calls of llama_decode at once (server_metrics in server-context.cpp); old
		// builds do not have those.
		spec.Counters = &engine.Counters{Path: "/metrics", Names: []string{
			"llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total", "llamacpp:n_decode_total",
		}}
		spec.Generated = &engine.Generated{
			Path: "/metrics", Names: []string{"llamacpp:tokens_predicted_total"},
			Slots: &engine.Slots{Path: "/slots", Busy: "is_processing", Tokens: "next_token.0.n_decoded"},
		}
	}
	return spec, nil
}
