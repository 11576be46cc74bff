// Package tgi is the engine for Hugging Face's text-generation-launcher.
//
// It owns what is known of that program alone: its flags, its side ports, its grace and its last words. The provisioner
// has it built in; who wants another one builds on [Engine]. It is pure, like every engine: it touches no file,
// network, process or environment.
package tgi

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/internal/python"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/version"
)

// Engine describes Hugging Face's text-generation-launcher.
type Engine struct{}

// Name returns "tgi".
func (Engine) Name() string { return "tgi" }

// Dialect is how the command line is written.
func (Engine) Dialect() *flagline.Dialect { return &dialect }

// Program says how the executable is found and asked what it is.
func (Engine) Program(engine.Request) engine.Program {
	return engine.Program{
		Image: engine.Image{
			Name: "ghcr.io/huggingface/text-generation-inference", Tag: "3.3.5",
			Volumes: []string{engine.HubVolume + ":/data"}, // its HF_HOME
			ShmSize: 1 << 30,
		},
		Command:      "text-generation-launcher",
		Modes:        []string{"binary", "container"}, // a Rust workspace that is in no Python package
		Model:        engine.ModelFolder,
		Port:         3000,
		VersionArgs:  []string{"--version"},
		ParseVersion: parseVersion,
		HelpArgs:     []string{"--help"},
		ParseHelp:    flagline.ParseClap,
	}
}

var versionLine = lazyregexp.New(`(?m)^text-generation-launcher (\d+\.\d+\.\d+\S*)\s*$`)

func parseVersion(output string) (name string, build int, err error) {
	m := versionLine.FindStringSubmatch(output)
	if m == nil {
		return "", 0, errors.New(`cannot find the version: no line like "text-generation-launcher 3.3.5"`)
	}
	return m[1], version.Number(m[1]), nil
}

// termination is how long the launcher waits for its router, and then again for its shards.
const termination = 90 * time.Second

// Launch gives each replica what the launcher takes from fixed places: a second one would delete the sockets of the
// first, and share its ports.
func (Engine) Launch(req engine.Request, host engine.Host) (engine.LaunchSpec, error) {
	m := dialect.Merge(req, host)
	if err := m.Err(); err != nil {
		return engine.LaunchSpec{}, err
	}
	m.AddDefaults()
	model := python.ModelFlags(m, "", "--model-id")
	if model[0].Note != "" {
		model[0].Note += "; "
	}
	model[0].Note += "TGI is in maintenance mode since December 2025 (#3345): vllm and sglang serve the same models"
	python.Shards(m, "--num-shard", "num-shard", "sharded")

	spec := engine.LaunchSpec{
		SpecialModel: python.SpecialModel(m),
		KeyEnv:       "API_KEY",
		Health:       "/health",
		OpenAI:       "/v1",
		GPUs:         python.GPUs(m, "num-shard"),
		Slots:        m.Count("max-batch-size"), // --max-concurrent-requests counts those that wait, too
		Version:      engine.Field{Path: "/info", Key: "version"},
		Model:        engine.Field{Path: "/info", Key: "model_id"},
		Answer:       &engine.AnswerRequest{Path: "/generate", Body: `{"inputs":"Hi","parameters":{"max_new_tokens":1}}`},
		// It serves nothing but completions, and says 424 of a shard that died over one (router/src/server.rs).
		MustAnswer: true,
		Grace:      graceOf(m),
		Causes:     causes(),
		Advice:     advice,
		// A series is there from the first request on; which ones come before it differs.
		Metrics: &engine.MetricsContract{Path: "/metrics"},
		Gauges:  &engine.Gauges{Path: "/metrics", Names: []string{"tgi_queue_size", "tgi_batch_current_size"}, Waiting: []string{"tgi_queue_size"}},
		// Steps of the model that went well (backends/v3/src/backend.rs).
		Counters: &engine.Counters{Path: "/metrics", Names: []string{"tgi_batch_inference_success"}},
		// The router does, for --graceful-termination-timeout.
		DrainsItself: true,
	}
	var own []engine.Flag
	add := func(flag, value, note string) {
		own = append(own, engine.Flag{Args: []string{flag, value}, Origin: engine.OriginProvisioner, Note: note})
	}
	add("--shard-uds-path", engine.TempDirPlaceholder+"/shard", "sockets of its own")
	for _, side := range []struct {
		flag, use string
		base      int
	}{{"--master-port", "the shards of TGI", 20000}, {"--prometheus-port", "the metrics of TGI", 20000 + sidePorts}} {
		if !m.Has(side.flag) { // --prometheus-port is not in every version
			continue
		}
		port := engine.Port{Number: side.base + req.Port%sidePorts, Use: side.use}
		add(side.flag, strconv.Itoa(port.Number), `a port of its own, by "port"`)
		spec.Ports = append(spec.Ports, port)
	}
	spec.FetchesFromHub = true // the model, adapters, tokenizers
	spec.Notes = m.Notes
	spec.Flags = slices.Concat(model, m.Address("--hostname"), own, m.Added, m.User)
	return spec, nil
}

// sidePorts is how many ports there are of each kind between 20000 and where Linux begins to give out ports by itself,
// 32768. With this number no port is its own side port, and replicas on ports in a row have different ones.
const sidePorts = 6384

// graceOf is the launcher's: once for the router, once for the shards, and a little.
func graceOf(m *flagline.Line) time.Duration {
	wait := termination
	if seconds, err := strconv.Atoi(m.Said("graceful-termination-timeout")); err == nil && seconds >= 0 {
		wait = time.Duration(seconds) * time.Second
	}
	return 2*wait + 5*time.Second
}
