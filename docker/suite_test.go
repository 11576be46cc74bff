package docker

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/enginetest/conformance"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

// TestSuite is the main job, which engines as processes do as well, in containers.
func TestSuite(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		options := []provisioner.Option{provisioner.WithLauncher(rt.launcher)}
		for name, s := range map[string]conformance.Subject{
			"llamacpp, real": {
				Config: rt.real, Gauge: "llamacpp:requests_processing", Path: "/completion",
				Body: `{"prompt":"Hi","n_predict":200,"ignore_eos":true}`,
			},
			"vllm": {
				Config: rt.fake("vllm", enginetest.VLLM), Version: "0.32.0", Gauge: "vllm:num_requests_running", Path: "/v1/completions",
				Body: `{"prompt":"Hi"}`, Workers: true,
			},
			"tgi": {
				Config: rt.fake("tgi", enginetest.TGI), Version: "3.3.6-dev0", Gauge: "tgi_batch_current_size", Path: "/generate",
				Body: `{"inputs":"Hi"}`, Workers: true,
			},
		} {
			s.Options, s.Patience = options, patience
			t.Run(name, func(t *testing.T) { conformance.Test(t, s) })
		}
	})
}

func (rt testRuntime) real(t testing.TB, pace conformance.Pace) provisioner.ProvisionConfig {
	t.Helper()
	cfg := rt.config(t)
	size := ggufgen.Params{}
	switch pace {
	case conformance.SlowLoad:
		size = ggufgen.Params{Width: 1024, Layers: 24}
		cfg.Flags = append(cfg.Flags, "--load-mode", "none")
	case conformance.SlowAnswer:
		size = ggufgen.Params{Width: 512, Layers: 8}
	}
	if err := ggufgen.WriteFile(cfg.Model.ID, size); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// fake is an engine in Python, with its workers.
func (rt testRuntime) fake(engine string, profile enginetest.Profile) func(testing.TB, conformance.Pace) provisioner.ProvisionConfig {
	return func(t testing.TB, pace conformance.Pace) provisioner.ProvisionConfig {
		t.Helper()
		b := enginetest.Behavior{Engine: profile, Speed: 50}
		switch pace {
		case conformance.SlowLoad:
			b.LoadTime = time.Hour
		case conformance.SlowAnswer:
			b.BusyRequests = 2 * time.Second // the gauge has to be seen meanwhile, also on a busy machine
		}
		cfg := rt.config(t)
		cfg.Engine, cfg.Flags = engine, nil
		cfg.Model.ID = filepath.Join(cfg.Dir, "model")
		if err := os.Mkdir(cfg.Model.ID, 0o700); err != nil {
			t.Fatal(err)
		}
		const header = `{"t":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}}`
		weights := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
		weights = append(append(weights, header...), make([]byte, 16)...)
		for name, data := range map[string][]byte{
			"config.json":       []byte(`{"architectures":["LlamaForCausalLM"],"max_position_embeddings":2048}`),
			"model.safetensors": weights,
		} {
			if err := os.WriteFile(filepath.Join(cfg.Model.ID, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return faking(t, cfg, b)
	}
}
