// Package sglang is the engine for "sglang serve".
//
// It owns what is known of that program alone: its flags, its grace and its last words. The provisioner has it built
// in; who wants another one builds on [Engine]. It is pure, like every engine: it touches no file, network, process or
// environment.
package sglang

import (
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/internal/python"
)

// Engine describes "sglang serve".
type Engine struct{}

// Name returns "sglang".
func (Engine) Name() string { return "sglang" }

// Dialect is how the command line is written.
func (Engine) Dialect() *flagline.Dialect { return &dialect }

// Program says how the executable is found and asked what it is.
func (Engine) Program(engine.Request) engine.Program {
	return engine.Program{
		Image: engine.Image{
			Name: "lmsysorg/sglang", Tag: "latest",
			Entrypoint: []string{"sglang"}, // the image has none
			Volumes:    []string{engine.HubVolume + ":/root/.cache/huggingface"},
			ShmSize:    32 << 30, // as its documentation says; it is a limit
		},
		Command:      "sglang",
		Modes:        []string{"binary", "package", "container"},
		Model:        engine.ModelFolder,
		Distribution: "sglang",
		Package:      "sglang==0.5.23", // whose help the flags are of
		Port:         30000,
		HelpArgs:     []string{"serve", "--help"},
		ParseHelp:    parseHelp,
	}
}

// ownGrace is for what SGLang does when all requests are done: its watchdog looks every 5 s, and gives the schedulers
// 15 s, before it ends itself by SIGKILL (tokenizer_manager.py).
const ownGrace = 30 * time.Second

// Launch gives no API key: SGLang takes one from its command line alone, which every user of the machine can read.
func (Engine) Launch(req engine.Request, host engine.Host) (engine.LaunchSpec, error) {
	m := dialect.Merge(req, host)
	if err := m.Err(); err != nil {
		return engine.LaunchSpec{}, err
	}
	m.AddDefaults()
	model := python.ModelFlags(m, "serve", "--model-path")
	served := python.ServedName(m)
	python.Shards(m, "--tp-size", "tp-size", "pp-size", "dp-size")
	if m.OnCPU() && !m.Says("device") {
		m.Added = append(m.Added, engine.Flag{
			Args: []string{"--device", "cpu"}, Origin: engine.OriginProvisioner, Key: "gpu", Note: "no GPU is used",
		})
	}
	info, modelInfo := "/server_info", "/model_info"
	if build := host.Binary.Build; build > 0 && build < 5010 {
		// The old names, which newer ones warn of, are those that the old ones know for certain.
		info, modelInfo = "/get_server_info", "/get_model_info"
	}

	spec := engine.LaunchSpec{
		SpecialModel: python.SpecialModel(m),
		Health:       "/health",
		OpenAI:       "/v1",
		// A healthy answer is one token, looked for once a second (http_server.py).
		HealthTakes: time.Second,
		GPUs:        gpus(m),
		Context:     python.Context(m, "context-length", "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN", "json-model-override-args"),
		Slots:       m.Count("max-running-requests"),
		Version:     engine.Field{Path: info, Key: "version"},
		Model:       engine.Field{Path: modelInfo, Key: "model_path"},
		Answer:      python.Completion(served),
		Grace:       ownGrace + m.Request.DrainTimeout,
		KillsItself: true,
		// No Gauges: the scheduler sets them every 40 steps, and up to 30 s late once it is idle ("During idle time" in
		// check_memory), so that a drain by them waits for nothing and does not see what has just come.
		DrainsItself: true,
		Causes:       causes(),
		Advice:       advice,
	}
	spec.FetchesFromHub = true // the model, adapters, tokenizers
	spec.Notes = m.Notes
	spec.Flags = slices.Concat(model, m.Address("--host"), m.Added, m.User)
	if port, err := strconv.Atoi(m.Said("nccl-port")); err == nil && port > 0 {
		// Else it looks for a free one itself. The same one for two replicas is found after the load.
		spec.Ports = []engine.Port{{Number: port, Use: "the GPUs of SGLang, by --nccl-port"}}
	}
	if _, text, err := net.SplitHostPort(m.Said("dist-init-addr")); err == nil {
		if port, err := strconv.Atoi(text); err == nil && port > 0 { // where both are given, this one counts (model_runner.py)
			spec.Ports = []engine.Port{{Number: port, Use: "the GPUs of SGLang, by --dist-init-addr"}}
		}
	}
	if m.On("--enable-metrics") {
		requests := []string{"sglang:num_running_reqs", "sglang:num_queue_reqs"}
		spec.Metrics = &engine.MetricsContract{Path: "/metrics", Required: requests}
		// They rise when a request is over (observe_one_finished_request in metrics_collector.py), realtime_tokens with each
		// report of the scheduler.
		spec.Counters = &engine.Counters{Path: "/metrics", Names: []string{
			"sglang:generation_tokens_total", "sglang:prompt_tokens_total", "sglang:realtime_tokens_total",
		}}
		spec.Generated = &engine.Generated{Path: "/metrics", Names: []string{"sglang:generation_tokens_total"}}
	}
	return spec, nil
}

// gpus is how many GPUs of this node the flags ask for; those of Ray may be other machines'. Copies of the model have
// GPUs of their own, unless they are copies of the attention alone.
func gpus(m *flagline.Line) int {
	if m.Says("use-ray") || m.Said("device") == "cpu" {
		return 0
	}
	world := []string{"tp-size", "pp-size"}
	if !m.Says("enable-dp-attention", "attn-dp-size") {
		world = append(world, "dp-size")
	}
	return python.GPUs(m, world...)
}
