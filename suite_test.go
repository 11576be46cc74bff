package provisioner_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/enginetest/conformance"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/settings"
)

// TestSuite is the main job with every engine. A new one gets it by a row.
func TestSuite(t *testing.T) {
	t.Parallel()
	for name, subject := range suite {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.Test(t, subject)
		})
	}
}

var suite = map[string]conformance.Subject{
	"llamacpp":                  {Config: fake("llamacpp", enginetest.LlamaCPP), Version: "b11669-Fake", Gauge: llamaGauge, Path: "/completion", Body: `{"prompt":"Hi"}`},
	"llamacpp, real":            {Config: realLlamaServer, Gauge: llamaGauge, Path: "/completion", Body: hundreds},
	"llamacpp, as custom":       {Config: asCustom(fake("llamacpp", enginetest.LlamaCPP)), Version: "b11669-Fake", Gauge: llamaGauge, Path: "/completion", Body: `{"prompt":"Hi"}`},
	"llamacpp, real, as custom": {Config: asCustom(plainLlamaServer), Gauge: llamaGauge, Path: "/completion", Body: hundreds},
	"custom":                    {Config: customServer, Version: "1.2.3", Gauge: "server_requests_running", Path: "/v1/completions", Body: `{"prompt":"Hi"}`},
	"vllm":                      {Config: fake("vllm", enginetest.VLLM), Version: "0.32.0", Gauge: "vllm:num_requests_running", Path: "/v1/completions", Body: `{"prompt":"Hi"}`, Workers: true},
	"sglang":                    {Config: fake("sglang", enginetest.SGLang), Version: "0.5.15", Gauge: "sglang:num_running_reqs", Path: "/v1/completions", Body: `{"prompt":"Hi"}`, Workers: true},
	"tgi":                       {Config: fake("tgi", enginetest.TGI), Version: "3.3.6-dev0", Gauge: "tgi_batch_current_size", Path: "/generate", Body: `{"inputs":"Hi"}`, Workers: true},
}

// TestSuiteFailures is what no engine tells before it has loaded, or not even then.
func TestSuiteFailures(t *testing.T) {
	t.Parallel()
	for kind, profile := range map[string]enginetest.Profile{
		"llamacpp": enginetest.LlamaCPP, "vllm": enginetest.VLLM, "sglang": enginetest.SGLang, "tgi": enginetest.TGI,
	} {
		for cause, b := range map[engine.Cause]enginetest.Behavior{
			engine.CausePortInUse:    {Bind: enginetest.BindFail},    // taken between our look and its own
			engine.CauseCannotAnswer: {Answer: enginetest.AnswerDie}, // /health says 200 until somebody asks
		} {
			t.Run(kind+" "+string(cause), func(t *testing.T) {
				t.Parallel()
				b.Engine, b.Speed = profile, 50
				cfg := replica(t, kind)
				cfg.Model.ID = modelFor(t, profile, cfg.Dir)
				cfg.Provisioning.Binary = &settings.Binary{Path: enginetest.Install(t, b)}
				p, err := provisioner.New(cfg, provisioner.WithCacheDir(t.TempDir()))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				if err := p.Start(ctx); err != nil {
					t.Fatal(err)
				}
				_, err = p.WaitReady(ctx)
				var exit *provisioner.ExitError
				var notReady *provisioner.NotReadyError
				switch {
				case errors.As(err, &exit) && exit.Cause == cause:
				case errors.As(err, &notReady) && notReady.Cause == cause:
				default:
					t.Errorf("WaitReady: %T: %v", err, err)
				}
				if err := p.Stop(ctx); err != nil && !errors.Is(err, provisioner.ErrKilled) {
					t.Errorf("Stop: %v", err)
				}
			})
		}
	}
}

const (
	llamaGauge = "llamacpp:requests_processing"
	// hundreds of tokens keep a real engine busy for seconds.
	hundreds = `{"prompt":"Hi","n_predict":200,"ignore_eos":true}`
)

// config makes a replica that is as slow as a part of the suite needs it.
type config = func(t testing.TB, pace conformance.Pace) provisioner.ProvisionConfig

// replica is what all of them have in common.
func replica(t testing.TB, kind string) provisioner.ProvisionConfig {
	t.Helper()
	dir := t.TempDir()
	drain := settings.Duration(2 * time.Minute) // a real engine's answer takes long on a busy machine
	return provisioner.ProvisionConfig{
		Drain:  settings.Drain{Timeout: &drain},
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir, Engine: kind,
		Port: enginetest.FreePort(t, 1), GPU: engine.GPUNone,
	}
}

// fake has a fake executable, whose own waits are short, and a model that it checks.
func fake(kind string, profile enginetest.Profile) config {
	return func(t testing.TB, pace conformance.Pace) provisioner.ProvisionConfig {
		t.Helper()
		b := enginetest.Behavior{Engine: profile, Speed: 50, StrictFlags: true, CheckModel: true}
		switch pace {
		case conformance.SlowLoad:
			b.LoadTime = time.Hour
		case conformance.SlowAnswer:
			b.BusyRequests = 2 * time.Second // the gauge has to be seen meanwhile, also on a busy machine
		}
		cfg := replica(t, kind)
		cfg.Model.ID = "local:" + modelFor(t, profile, cfg.Dir)
		cfg.Provisioning.Binary = &settings.Binary{Path: enginetest.Install(t, b)}
		return cfg
	}
}

// modelFor writes what passes for a model: a file for llama-server, and a folder for engines in Python.
func modelFor(t testing.TB, profile enginetest.Profile, dir string) string {
	t.Helper()
	dir = filepath.Join(dir, "model")
	files := map[string][]byte{"model.gguf": []byte(enginetest.GGUF)}
	if profile != enginetest.LlamaCPP {
		const header = `{"t":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}}`
		weights := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
		files = map[string][]byte{
			"config.json":       []byte(`{"architectures":["LlamaForCausalLM"],"max_position_embeddings":2048}`),
			"model.safetensors": append(append(weights, header...), make([]byte, 16)...),
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if profile == enginetest.LlamaCPP {
		return filepath.Join(dir, "model.gguf")
	}
	return dir
}

// asCustom runs another engine's replica from configuration alone, as the example of that describes it.
func asCustom(of config) config {
	return func(t testing.TB, pace conformance.Pace) provisioner.ProvisionConfig {
		t.Helper()
		file, err := provisioner.LoadConfig("examples/llama-server-custom.yaml")
		if err != nil {
			t.Fatal(err)
		}
		cfg := of(t, pace)
		cfg.Engine, cfg.Custom = "custom", file.Pools[0].Custom
		cfg.Custom.Command[0] = cfg.Provisioning.Binary.Path
		cfg.Provisioning.Binary = nil
		return cfg
	}
}

// customServer is a web server that nobody has heard of.
func customServer(t testing.TB, pace conformance.Pace) provisioner.ProvisionConfig {
	t.Helper()
	cfg := fake("custom", enginetest.Custom)(t, pace)
	const series = "server_requests_%s"
	cfg.Custom = &settings.Custom{
		Command: []string{cfg.Provisioning.Binary.Path, "--model={model}", "--host", "{host}", "--port", "{port}"},
		Version: &engine.Field{Path: "/api/version", Key: "version"},
		Metrics: &engine.MetricsContract{Path: "/metrics", Required: []string{"server_answers_total"}},
		Gauges:  []string{fmt.Sprintf(series, "running"), fmt.Sprintf(series, "waiting")},
		Answer:  &engine.AnswerRequest{Path: "/v1/completions", Body: `{"prompt":"Hi","max_tokens":1}`},
	}
	cfg.Provisioning.Binary = nil
	return cfg
}

// plainLlamaServer is one whose flags nobody translates: builds differ in how they are told not to map the model.
func plainLlamaServer(t testing.TB, pace conformance.Pace) provisioner.ProvisionConfig {
	t.Helper()
	cfg := realLlamaServer(t, pace)
	cfg.Flags = slices.DeleteFunc(cfg.Flags, func(f string) bool { return f == "--no-mmap" })
	return cfg
}

// realLlamaServer has a generated model. A big one takes a third of a second to load and some seconds to answer.
func realLlamaServer(t testing.TB, pace conformance.Pace) provisioner.ProvisionConfig {
	t.Helper()
	const variable = "ENGINE_PROVISIONER_LLAMA_SERVER"
	path := os.Getenv(variable)
	switch {
	case path != "":
	case os.Getenv("CI") != "":
		t.Fatalf("CI must have a real llama-server; set %s, or run make test", variable)
	default:
		t.Skipf("needs a real llama-server: set %s, or run make test", variable)
	}
	size := ggufgen.Params{}
	if pace != conformance.Quick {
		size = ggufgen.Params{Width: 1024, Layers: 8}
	}
	cfg := replica(t, "llamacpp")
	cfg.Model.ID = filepath.Join(cfg.Dir, "model.gguf")
	if err := ggufgen.WriteFile(cfg.Model.ID, size); err != nil {
		t.Fatal(err)
	}
	cfg.Model.ID = "local:" + cfg.Model.ID
	cfg.Provisioning.Binary = &settings.Binary{Path: path}
	cfg.Flags = []string{"--ctx-size", "512", "--threads", "1", "--no-mmap"}
	return cfg
}
