package provisioner

import (
	"cmp"
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"time"
)

// vLLM describes "vllm serve".
type vLLM struct{}

func (vLLM) Name() string { return "vllm" }

func (vLLM) Program(cfg ProvisionConfig) Program {
	image := Image{
		Name: "vllm/vllm-openai", Tag: "latest",
		Entrypoint: []string{"vllm"}, // the image's own says "vllm serve", and that of images before 2025-10 something else
		Volumes:    []string{hubVolume + ":/root/.cache/huggingface", "engine-provisioner-vllm:/root/.cache/vllm"},
		ShmSize:    2 << 30, // what its workers talk through; 64 MiB are not enough
	}
	if cfg.GPU == GPUNone {
		image.Name, image.Tag = "vllm/vllm-openai-cpu", "latest-x86_64"
	}
	return Program{
		Image:        image,
		Command:      "vllm",
		Model:        ModelFolder,
		Distribution: "vllm",
		// The help for people lists groups of flags only.
		HelpArgs:  []string{"serve", "--help=all"},
		ParseHelp: parseArgparseHelp,
	}
}

const (
	// vllmGrace is twice what vLLM gives its own workers.
	vllmGrace = 10 * time.Second
	// vllmLoadGrace is enough for a start that hears SIGTERM at all: it dies of it within 20 ms while it imports, and
	// ignores it from the birth of its EngineCore until it is ready (0.32.0).
	vllmLoadGrace = 2 * time.Second
)

// Launch passes the model as the first argument: vLLM serves one of its own choice where there is none.
func (vLLM) Launch(cfg ProvisionConfig, host Host) (LaunchSpec, error) {
	m := vllmDialect.merge(cfg, host)
	if err := m.err(); err != nil {
		return LaunchSpec{}, err
	}
	m.addDefaults()
	model := m.modelFlags("serve", "")
	served := m.servedName()
	m.shards("--tensor-parallel-size", "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "data-parallel-rank")
	wait := m.vllmShutdown()

	spec := LaunchSpec{
		KeyEnv:    "VLLM_API_KEY",
		Health:    "/health",
		Context:   tokens(m.said("max-model-len")),
		Version:   Field{Path: "/version", Key: "version"},
		Model:     Field{Path: "/v1/models", Key: "data.0.root"},
		Answer:    completion(served),
		Grace:     vllmGrace + wait,
		LoadGrace: vllmLoadGrace,
		Causes:    vllmCauses,
		NoGPU:     vllmNoGPU,
	}
	spec.Flags = append(model, m.addressFlags("--host")...)
	spec.Flags = append(spec.Flags, m.defaults...)
	spec.Flags = append(spec.Flags, m.user...)
	if !m.says("disable-log-stats") {
		requests := []string{"vllm:num_requests_running", "vllm:num_requests_waiting"}
		spec.Metrics = &MetricsContract{Path: "/metrics", Required: requests}
		spec.Gauges = &Gauges{Path: "/metrics", Names: requests}
	}
	return spec, nil
}

// vllmShutdown adds --shutdown-timeout and returns how long vLLM may answer on after SIGTERM. Without it, it leaves its
// clients without data and without an end until they hang up.
func (m *flagMerge) vllmShutdown() time.Duration {
	const flag = "--shutdown-timeout"
	if m.says("shutdown-timeout") {
		seconds, _ := strconv.Atoi(m.said("shutdown-timeout"))
		return time.Duration(max(seconds, 0)) * time.Second
	}
	wait := time.Duration(defaultDrainTimeout)
	if m.cfg.Drain.Timeout != nil {
		wait = time.Duration(*m.cfg.Drain.Timeout)
	}
	if grace := time.Duration(m.cfg.Stop.Grace); grace > 0 {
		wait = min(wait, grace-vllmGrace/2)
	}
	seconds := int(wait / time.Second)
	// Since 0.18.0 (vLLM #34730, #36666).
	if seconds <= 0 || !m.since(flag, 18000) {
		return 0
	}
	m.defaults = append(m.defaults, Flag{
		Args: []string{flag, strconv.Itoa(seconds)}, Origin: OriginDefault, Key: "drain.timeout",
		Note: "answers what is in flight when it is told to stop",
	})
	return time.Duration(seconds) * time.Second
}

// modelFlags name the model, which stands after command, or after flag where there is one.
func (m *flagMerge) modelFlags(command, flag string) []Flag {
	name, revision := m.model()
	args := []string{command, flag, name}
	f := Flag{Origin: OriginProvisioner, Key: "model.id"}
	for _, arg := range args {
		if arg != "" {
			f.Args = append(f.Args, arg)
		}
	}
	flags := []Flag{f}
	_, _, hub := hubModel(m.cfg.Model.ID)
	switch {
	case revision != "":
		flags = append(flags, Flag{Args: []string{"--revision", revision}, Origin: OriginProvisioner, Key: "model.id"})
	case hub:
		flags[0].Note = `fetched by the engine; not pinned: "hf:owner/repository@commit" is always the same model`
	}
	return flags
}

// model is what stands for the model on the command line of an engine that fetches models itself.
func (m *flagMerge) model() (name, revision string) {
	if m.host.ModelPath != "" {
		return m.host.ModelPath, ""
	}
	name, revision, _ = hubModel(m.cfg.Model.ID)
	return name, revision
}

// addressFlags say where to listen.
func (m *flagMerge) addressFlags(host string) []Flag {
	return []Flag{
		{Args: []string{host, cmp.Or(m.cfg.Host, "127.0.0.1")}, Origin: OriginProvisioner, Key: "host"},
		{Args: []string{"--port", strconv.Itoa(m.cfg.Port)}, Origin: OriginProvisioner, Key: "port"},
	}
}

// servedName is the name that clients call the model by. It adds the flag for it, unless the user did.
func (m *flagMerge) servedName() string {
	if name := m.said("served-model-name"); name != "" {
		return name
	}
	name, _ := m.model()
	if m.host.ModelPath != "" {
		name = path.Base(name)
	}
	m.defaults = append(m.defaults, Flag{
		Args: []string{"--served-model-name", name}, Origin: OriginDefault, Key: "model.id", Note: "what clients call the model",
	})
	return name
}

// shards adds the flag for the number of GPUs, unless the user says how the model is spread.
func (m *flagMerge) shards(flag string, subjects ...string) {
	n := len(m.host.GPUs)
	if n < 2 || m.onCPU() || m.says(subjects...) {
		return
	}
	m.defaults = append(m.defaults, Flag{
		Args: []string{flag, strconv.Itoa(n)}, Origin: OriginDefault, Key: "devices", Note: "the model is spread over all its GPUs",
	})
}

// completion asks an engine with the API of OpenAI for one token.
func completion(model string) *AnswerRequest {
	body, _ := json.Marshal(map[string]any{"model": model, "prompt": "Hi", "max_tokens": 1})
	return &AnswerRequest{Path: "/v1/completions", Body: string(body)}
}

// tokens reads a number such as "4096", "4k" (4000) or "4K" (4096); 0 when there is none.
func tokens(s string) int {
	units := map[string]float64{"k": 1e3, "K": 1 << 10, "m": 1e6, "M": 1 << 20, "g": 1e9, "G": 1 << 30}
	factor := 1.0
	if s != "" {
		if f, ok := units[s[len(s)-1:]]; ok {
			factor, s = f, s[:len(s)-1]
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || n*factor < 1 || n*factor > 1<<40 {
		return 0
	}
	return int(n * factor)
}
