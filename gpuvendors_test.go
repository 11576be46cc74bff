package provisioner

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

var radeon = engine.GPU{
	Vendor: engine.VendorAMD, UUID: "GPU-00000000000000A0", Name: "AMD GPU gfx1100", PCIBusID: "0000:03:00.0", MemoryTotal: 24 << 30, MemoryFree: 20 << 30,
}

// What llama-server lists and logs, in the words of b11669.
const (
	listsNone   = "Available devices:\n  (none)\n"
	listsVulkan = "Available devices:\n  Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 20000 MiB free)\n"
	listsROCm   = "Available devices:\n  ROCm0: AMD Radeon RX 7900 XTX (24560 MiB, 20000 MiB free)\n"
	usesVulkan  = "llama_prepare_model_devices: using device Vulkan0 (AMD Radeon RX 7900 XTX (RADV NAVI31)) (0000:03:00.0) - 20000 MiB free\n" +
		"load_tensors: offloaded 31/31 layers to GPU\nload_tensors:      Vulkan0 model buffer size =    92.10 MiB\n"
	usesCPU = "load_tensors: offloaded 31/31 layers to GPU\nload_tensors:   CPU_Mapped model buffer size =    92.10 MiB\n"
)

// A replica on a card of AMD, from the list of its executable to the handoff.
func TestGPUOfAMD(t *testing.T) {
	t.Parallel()
	driver := withGPUs(stubGPUs{gpus: []engine.GPU{radeon}})
	start := func(t *testing.T, b enginetest.Behavior, change func(*ProvisionConfig)) (*EngineProvisioner, *journal, error) {
		cfg := fakeConfig(t, b)
		cfg.GPU = engine.GPURequired
		if change != nil {
			change(&cfg)
		}
		p, j := newLaunch(t, cfg, driver, WithCacheDir(t.TempDir()))
		if err := p.Start(bounded(t)); err != nil {
			return p, j, err
		}
		_, err := p.WaitReady(bounded(t))
		return p, j, err
	}
	t.Run("by Vulkan", func(t *testing.T) {
		t.Parallel()
		p, j, err := start(t, enginetest.Behavior{Devices: listsVulkan, LogText: usesVulkan}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.handoff.Devices, []string{radeon.UUID}) || p.handoff.DeviceMask != "GPU0" {
			t.Errorf("handoff: %q, %q", p.handoff.Devices, p.handoff.DeviceMask)
		}
		if !strings.Contains(strings.Join(p.handoff.Args, " "), "--device Vulkan0") {
			t.Errorf("it was not told its device: %q", p.handoff.Args)
		}
		if !strings.Contains(j.notes(), "it uses the GPU: 92 MiB of weights on Vulkan0 (0 (GPU-00000000000000A0))") {
			t.Errorf("notes %q", j.notes())
		}
		env := strings.Join(enginetest.Inspect(t, p.handoff.URL).Env, "\n")
		if strings.Contains(env, "VISIBLE_DEVICES=") {
			t.Errorf("variables that no build for Vulkan heeds, or that hide its GPU:\n%s", env)
		}
	})
	t.Run("by ROCm", func(t *testing.T) {
		t.Parallel()
		p, _, err := start(t, enginetest.Behavior{Devices: listsROCm, LogText: strings.ReplaceAll(usesVulkan, "Vulkan0", "ROCm0")}, nil)
		if err != nil {
			t.Fatal(err)
		}
		env := enginetest.Inspect(t, p.handoff.URL).Env
		if !slices.Contains(env, "ROCR_VISIBLE_DEVICES=GPU-00000000000000A0") || slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "CUDA_VISIBLE") }) {
			t.Errorf("environment %q", env)
		}
	})
	t.Run("what the user says of devices", func(t *testing.T) {
		t.Parallel()
		p, _, err := start(t, enginetest.Behavior{Devices: listsROCm, LogText: strings.ReplaceAll(usesVulkan, "Vulkan0", "ROCm0")}, func(cfg *ProvisionConfig) {
			cfg.Env = map[string]settings.EnvValue{"ROCR_VISIBLE_DEVICES": {Value: "0"}}
		})
		if err != nil {
			t.Fatal(err)
		}
		if env := enginetest.Inspect(t, p.handoff.URL).Env; !slices.Contains(env, "ROCR_VISIBLE_DEVICES=0") {
			t.Errorf("environment %q", env)
		}
	})
	for name, tt := range map[string]struct {
		b      enginetest.Behavior
		change func(*ProvisionConfig)
		want   string
	}{
		"a build for the CPU":    {enginetest.Behavior{Devices: listsNone, LoadTime: time.Hour}, nil, "this llama-server has no backend for a GPU of AMD: it lists no device"},
		"all weights on the CPU": {enginetest.Behavior{Devices: listsVulkan, LogText: usesCPU}, nil, "the engine put no weights on a GPU: it has 92.10 MiB in CPU_Mapped"},
		"another's GPU": {
			enginetest.Behavior{Devices: listsVulkan, LogText: strings.ReplaceAll(usesVulkan, "0000:03:00.0", "0000:04:00.0")},
			nil,
			"at 0000:04:00.0, which is none of the GPUs of this replica: 0 (GPU-00000000000000A0)",
		},
		"an address that is not there": {enginetest.Behavior{Devices: listsVulkan}, func(cfg *ProvisionConfig) { cfg.Devices = settings.Devices{"0000:99:00.0"} }, `there is no such GPU; there are: 0 (GPU-00000000000000A0), Vulkan0`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _, err := start(t, tt.b, tt.change)
			if _, ok := errors.AsType[*GPUError](err); !ok {
				t.Fatalf("%T: %v", err, err)
			}
			wantText(t, err, tt.want)
			if p.run != nil {
				nothingLeft(t, p)
			}
		})
	}
	t.Run("optional, with a build for the CPU", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, enginetest.Behavior{Devices: listsNone})
		cfg.GPU = engine.GPUOptional
		plan, err := planOf(bounded(t), cfg, driver, WithCacheDir(t.TempDir()))
		if err != nil || len(plan.GPUs) > 0 || !slices.ContainsFunc(plan.Notes, func(n string) bool {
			return strings.Contains(n, "gpu: no GPU is used: this llama-server has no backend")
		}) {
			t.Errorf("%v, %q (%v)", plan.GPUs, plan.Notes, err)
		}
	})
}

// An unmanaged replica runs with what the user says, and nothing else.
func TestGPUUnmanaged(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{LogText: usesCPU})
	cfg.GPU, cfg.Flags = engine.GPUUnmanaged, settings.Flags{"--device", "none"}
	cfg.Env = map[string]settings.EnvValue{"CUDA_VISIBLE_DEVICES": {Value: "3"}, "GGML_VK_VISIBLE_DEVICES": {Value: "1"}}
	driver := &fakeGPUs{gpus: []engine.GPU{gpu0}}
	p, _ := ready(t, cfg, withGPUs(driver))
	env := enginetest.Inspect(t, p.handoff.URL).Env
	for _, want := range []string{"CUDA_VISIBLE_DEVICES=3", "GGML_VK_VISIBLE_DEVICES=1"} {
		if !slices.Contains(env, want) {
			t.Errorf("no %s in %q", want, env)
		}
	}
	if args := strings.Join(p.handoff.Args, " "); strings.Contains(args, "--n-gpu-layers") || !strings.Contains(args, "--device none") {
		t.Errorf("arguments %q", args)
	}
	if driver.asked.Load() > 0 || len(p.handoff.Devices) > 0 {
		t.Errorf("the driver was asked %d times; the handoff names %q", driver.asked.Load(), p.handoff.Devices)
	}
}

// What env says of GPUs is refused where another key decides it.
func TestGPUVariables(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		gpu     engine.GPUPolicy
		devices settings.Devices
		env     string
		want    string
	}{
		"beside devices": {"", settings.Devices{"0"}, "ROCR_VISIBLE_DEVICES", `env.ROCR_VISIBLE_DEVICES: may not be set beside "devices"`},
		"with auto":      {"", settings.DevicesAuto(), "GGML_VK_VISIBLE_DEVICES", `may not be set beside "devices"`},
		"beside names":   {"", settings.Devices{"Vulkan1"}, "GGML_VK_VISIBLE_DEVICES", ""},
		"without a GPU":  {engine.GPUNone, nil, "ZE_AFFINITY_MASK", `may not be set while "gpu" is "none"`},
		"of NVIDIA":      {"", nil, "CUDA_VISIBLE_DEVICES", `write "devices" or "gpu" instead`},
		"alone":          {"", nil, "HIP_VISIBLE_DEVICES", ""},
		"unmanaged":      {engine.GPUUnmanaged, nil, "CUDA_VISIBLE_DEVICES", ""},
		"unmanaged too":  {engine.GPUUnmanaged, settings.Devices{"0"}, "A", `devices: names GPUs while "gpu" is "unmanaged"`},
	} {
		cfg := ProvisionConfig{
			PoolID: "p", ReplicaID: "r0", Engine: "llamacpp", Port: 8081, Model: settings.Model{ID: "/m.gguf"}, GPU: tt.gpu, Devices: tt.devices,
			Env: map[string]settings.EnvValue{tt.env: {Value: "0"}},
		}
		_, err := New(cfg)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, cfg := range []ProvisionConfig{
		{Flags: settings.Flags{"--device", "none"}}, {Env: map[string]settings.EnvValue{"LLAMA_ARG_DEVICE": {Value: "none"}}},
	} {
		cfg.Model.ID, cfg.GPU = "m.gguf", engine.GPURequired
		_, err := launchOf(llamacpp.Engine{}, cfg, engine.Host{GPUs: []engine.GPU{gpu0}})
		wantText(t, err, `of none leaves the GPU idle while "gpu" is required`)
		cfg.GPU = engine.GPUOptional
		if _, err := launchOf(llamacpp.Engine{}, cfg, engine.Host{GPUs: []engine.GPU{gpu0}}); err != nil {
			t.Error(err)
		}
	}
}

// Unknown memory is null, for whoever reads a plan or a record, and stays unknown.
func TestGPUMemoryInJSON(t *testing.T) {
	t.Parallel()
	was := engine.GPU{Vendor: engine.VendorIntel, Name: "Arc", MemoryTotal: 12 << 30, MemoryFree: engine.UnknownBytes}
	data, err := json.Marshal(was)
	if err != nil || !strings.Contains(string(data), `"memory_total":12884901888,"memory_free":null`) {
		t.Fatalf("%s (%v)", data, err)
	}
	var now engine.GPU
	if err := json.Unmarshal(data, &now); err != nil || now.MemoryTotal != 12<<30 || now.MemoryFree.Known() {
		t.Errorf("%+v (%v)", now, err)
	}
	if err := json.Unmarshal([]byte(`{"memory_free": "x"}`), &now); err == nil {
		t.Error("text is taken for a number")
	}
}

// A model is held against main memory where the GPU works in it, and against nothing where nobody knows how much there is.
func TestFitOfUnifiedMemory(t *testing.T) {
	t.Parallel()
	needs := func(g engine.GPU, fit string) ([]report.MemoryNeed, error) {
		cfg := ggufConfig(t, enginetest.Behavior{})
		cfg.GPU, cfg.Fit, cfg.Flags = engine.GPURequired, fit, settings.Flags{"-ngl", "999", "--fit", "off"}
		plan, err := planOf(bounded(t), cfg, withGPUs(&fakeGPUs{gpus: []engine.GPU{g}}), WithCacheDir(t.TempDir()))
		return plan.Memory, err
	}
	apart, err := needs(engine.GPU{UUID: "GPU-a", MemoryTotal: 80 << 30, MemoryFree: 79 << 30}, "warn")
	if err != nil || len(apart) != 2 {
		t.Fatalf("%v (%v)", apart, err)
	}
	gb10, err := needs(engine.GPU{Vendor: engine.VendorNVIDIA, UUID: "GPU-b", MemoryTotal: engine.UnknownBytes, MemoryFree: 20 << 30, Unified: true}, "require")
	if err != nil || len(gb10) != 1 || gb10[0].GPU != "" || gb10[0].Need < apart[0].Need+apart[1].Need {
		t.Errorf("GB10: %v (%v), apart %v", gb10, err, apart)
	}
	unknown, err := needs(engine.GPU{Vendor: engine.VendorIntel, PCIBusID: "0000:03:00.0", MemoryTotal: engine.UnknownBytes, MemoryFree: engine.UnknownBytes}, "require")
	if err != nil || len(unknown) != 1 || unknown[0].GPU != "" {
		t.Errorf("unknown: %v (%v)", unknown, err)
	}
	arc, err := needs(engine.GPU{Vendor: engine.VendorIntel, PCIBusID: "0000:03:00.0", MemoryTotal: 12 << 30, MemoryFree: engine.UnknownBytes}, "require")
	if err != nil || len(arc) != 2 || !arc[0].Whole || !strings.Contains(arc[0].String(), "of 12.0 GiB; how much of that is free is not known") {
		t.Errorf("Arc: %v (%v)", arc, err)
	}
}
