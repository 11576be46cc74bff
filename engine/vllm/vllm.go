// Package vllm is the engine for "vllm serve".
//
// It owns what is known of that program alone: its flags and how they changed from version to version, its grace and
// its last words. The provisioner has it built in; who wants another one builds on [Engine]. It is pure, like every
// engine: it touches no file, network, process or environment.
package vllm

import (
	"slices"
	"strconv"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/internal/python"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// Engine describes "vllm serve".
type Engine struct{}

// Name returns "vllm".
func (Engine) Name() string { return "vllm" }

// Dialect is how the command line is written.
func (Engine) Dialect() *flagline.Dialect { return &dialect }

// Program says how the executable is found and asked what it is.
func (Engine) Program(req engine.Request) engine.Program {
	image := engine.Image{
		Name: "vllm/vllm-openai", Tag: "latest",
		Entrypoint: []string{"vllm"}, // the image's own says "vllm serve", and that of images before 2025-10 something else
		Volumes:    []string{engine.HubVolume + ":/root/.cache/huggingface", "engine-provisioner-vllm:/root/.cache/vllm"},
		ShmSize:    2 << 30, // what its workers talk through; 64 MiB are not enough
	}
	pkg := "vllm==0.32.0" // the one that the tests run
	if req.GPU == engine.GPUNone {
		image.Name, image.Tag = "vllm/vllm-openai-cpu", "latest-x86_64"
		pkg = "" // that one is for CUDA
	}
	return engine.Program{
		Image:        image,
		Command:      "vllm",
		Modes:        []string{"binary", "package", "container"},
		Model:        engine.ModelFolder,
		Distribution: "vllm",
		Package:      pkg,
		Port:         8000,
		// The help for people lists groups of flags only.
		HelpArgs:  []string{"serve", "--help=all"},
		ParseHelp: flagline.ParseArgparse,
	}
}

const (
	// ownGrace is for vLLM's own end: it gives its workers 5 s to go and 4 s after SIGTERM (multiproc_executor.py), and
	// took 13 s altogether on two busy cores (0.32.0).
	ownGrace = 15 * time.Second
	// loadGrace is enough for a start that hears SIGTERM at all: it dies of it within 20 ms while it imports, and
	// ignores it from the birth of its EngineCore until it is ready (0.32.0).
	loadGrace = 2 * time.Second
)

// chatter is what the API server writes each minute while its workers hang (shm_broadcast.py).
var chatter = lazyregexp.New(`No available shared memory broadcast block found`)

// Launch passes the model as the first argument: vLLM serves one of its own choice where there is none.
func (Engine) Launch(req engine.Request, host engine.Host) (engine.LaunchSpec, error) {
	m := dialect.Merge(req, host)
	if err := m.Err(); err != nil {
		return engine.LaunchSpec{}, err
	}
	m.AddDefaults()
	model := python.ModelFlags(m, "serve", "")
	served := python.ServedName(m)
	python.Shards(m, "--tensor-parallel-size", "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "data-parallel-rank")
	wait := shutdown(m)

	spec := engine.LaunchSpec{
		SpecialModel: python.SpecialModel(m),
		KeyEnv:       "VLLM_API_KEY",
		Health:       "/health",
		OpenAI:       "/v1",
		GPUs:         gpus(m),
		Context:      python.Context(m, "max-model-len", "VLLM_ALLOW_LONG_MAX_MODEL_LEN", "hf-overrides", "hf-config-path"),
		Version:      engine.Field{Path: "/version", Key: "version"},
		Model:        engine.Field{Path: "/v1/models", Key: "data.0.root"},
		Answer:       python.Completion(served),
		Grace:        ownGrace + wait,
		LoadGrace:    loadGrace,
		// With --shutdown-timeout alone.
		DrainsItself: wait > 0,
		Causes:       causes(),
		Advice:       advice,
		NoGPU:        noGPU.Compiled(),
		Chatter:      chatter.Compiled(),
	}
	if !m.Says("data-parallel-size", "data-parallel-size-local") { // else each of the copies has that many
		spec.Slots = m.Count("max-num-seqs") // its own default depends on the GPU, and no page tells it
	}
	spec.FetchesFromHub = true // the model, adapters, tokenizers
	spec.Notes = m.Notes
	spec.Flags = slices.Concat(model, m.Address("--host"), m.Added, m.User)
	if m.Says("enable-sleep-mode") {
		// With VLLM_SERVER_DEV_MODE alone (serve/dev/sleep/api_router.py); a sleeping one has no weights to answer with.
		spec.Asleep = engine.Field{Path: "/is_sleeping", Key: "is_sleeping"}
	}
	if !m.Says("disable-log-stats") {
		requests := []string{"vllm:num_requests_running", "vllm:num_requests_waiting"}
		spec.Metrics = &engine.MetricsContract{Path: "/metrics", Required: requests}
		spec.Gauges = &engine.Gauges{Path: "/metrics", Names: requests, Waiting: requests[1:]}
		// The first rises with each step of the engine, the second when a prompt is through (v1/metrics/loggers.py).
		spec.Counters = &engine.Counters{Path: "/metrics", Names: []string{"vllm:generation_tokens_total", "vllm:prompt_tokens_total"}}
		spec.Generated = &engine.Generated{Path: "/metrics", Names: []string{"vllm:generation_tokens_total"}}
	}
	return spec, nil
}

// gpus is how many GPUs of this node the flags ask for; those of Ray may be other machines'. The copies of data
// parallelism are all on this node, unless they are counted for it or this server is one of them.
func gpus(m *flagline.Line) int {
	if slices.Contains([]string{"ray", "external_launcher"}, m.Said("distributed-executor-backend")) || m.Said("data-parallel-backend") == "ray" {
		return 0
	}
	world := []string{"tensor-parallel-size", "pipeline-parallel-size", "prefill-context-parallel-size"}
	switch {
	case m.Says("data-parallel-size-local"):
		world = append(world, "data-parallel-size-local")
	case !m.Says("data-parallel-rank"):
		world = append(world, "data-parallel-size")
	}
	return python.GPUs(m, world...)
}

// shutdown adds --shutdown-timeout and returns how long vLLM may answer on after SIGTERM. Without it, it leaves its
// clients without data and without an end until they hang up.
func shutdown(m *flagline.Line) time.Duration {
	const flag = "--shutdown-timeout"
	if m.Says("shutdown-timeout") {
		seconds, _ := strconv.Atoi(m.Said("shutdown-timeout"))
		return time.Duration(max(seconds, 0)) * time.Second
	}
	wait := m.Request.DrainTimeout
	if grace := m.Request.Grace; grace > 0 {
		wait = min(wait, grace-ownGrace/3) // answers count for more than a tidy end
	}
	seconds := int(wait / time.Second)
	// Since 0.18.0 (vLLM #34730, #36666).
	if seconds <= 0 || !m.Since(flag, 18000) {
		return 0
	}
	m.Added = append(m.Added, engine.Flag{
		Args: []string{flag, strconv.Itoa(seconds)}, Origin: engine.OriginDefault, Key: "drain.timeout",
		Note: "answers what is in flight when it is told to stop",
	})
	return time.Duration(seconds) * time.Second
}
