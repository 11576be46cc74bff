package provisioner

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
)

// llamaCPP describes llama.cpp's llama-server.
type llamaCPP struct{}

// The variable of the API key, which takes a list.
const (
	llamaKeyEnv       = "LLAMA_API_KEY"
	llamaKeySeparator = ","
)

func (llamaCPP) Name() string { return "llamacpp" }

func (llamaCPP) Program(req engine.Request) engine.Program {
	image := engine.Image{Name: "ghcr.io/ggml-org/llama.cpp", Tag: "server-cuda"}
	if req.GPU == engine.GPUNone {
		image.Tag = "server" // the one without CUDA
	}
	return engine.Program{
		Image:        image,
		Command:      "llama-server",
		SourceFlags:  llamaSourceFlags,
		Release:      &llamaRelease,
		Model:        engine.ModelGGUF,
		Port:         8080, // until 2026, and in everybody's notes
		VersionArgs:  []string{"--version"},
		ParseVersion: parseLlamaVersion,
		HelpArgs:     []string{"--help"},
		ParseHelp:    parseLlamaHelp,
	}
}

// Launch puts the flags of the provisioner first, then its defaults, then the user's.
func (llamaCPP) Launch(req engine.Request, host engine.Host) (engine.LaunchSpec, error) {
	m := llamaDialect.merge(req, host)
	readLlamaGPUEnv(m)
	if err := m.err(); err != nil {
		return engine.LaunchSpec{}, err
	}
	m.addDefaults()
	addLlamaLayers(m)

	spec := engine.LaunchSpec{
		Env:          llamaOffloadEnv(m),
		KeyEnv:       llamaKeyEnv,
		KeySeparator: llamaKeySeparator,
		Health:       "/health",
		Version:      engine.Field{Path: "/props", Key: "build_info"},
		Model:        engine.Field{Path: "/props", Key: "model_path"},
		Slots:        m.count("parallel"),
		SlotsAt:      engine.Field{Path: "/props", Key: "total_slots"}, // "--parallel -1" is up to it
		Asleep:       engine.Field{Path: "/props", Key: "is_sleeping"},
		Answer:       &engine.AnswerRequest{Path: "/completion", Body: `{"prompt":"Hi","n_predict":1,"cache_prompt":false}`},
		Grace:        5 * time.Second,
		Causes:       llamaCauses,
		Advice:       m.llamaMemoryAdvice(),
		Offload:      llamaOffload,
		NoGPU:        llamaNoGPU,
	}
	model := []engine.Flag{{Args: []string{"--model", cmp.Or(host.ModelPath, req.Model.ID)}, Origin: engine.OriginProvisioner, Key: "model.id"}}
	spec.Notes = m.notes
	spec.Flags = slices.Concat(model, m.addressFlags("--host"), m.defaults, m.user)
	spec.GGUF = llamaMemory(m, spec.Flags)
	if idle, err := strconv.Atoi(m.said("sleep-idle-seconds")); err == nil && idle >= 0 {
		// Until llama.cpp#27376 (August 2026) the page was a task like any other; b10621 has it.
		spec.SleepsIdle, spec.MetricsWake = true, host.Binary.Build < 10621
	}
	if m.on("--metrics") {
		// These four are there since the page exists; others came and went.
		spec.Metrics = &engine.MetricsContract{Path: "/metrics", Required: []string{
			"llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total",
			"llamacpp:requests_processing", "llamacpp:requests_deferred",
		}}
		spec.Gauges = &engine.Gauges{Path: "/metrics", Names: []string{"llamacpp:requests_processing", "llamacpp:requests_deferred"}}
		// Tokens are counted when a request is over, calls of llama_decode at once (server_metrics in server-context.cpp); old
		// builds do not have those.
		spec.Counters = &engine.Counters{Path: "/metrics", Names: []string{
			"llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total", "llamacpp:n_decode_total",
		}}
	}
	return spec, nil
}
