package vulkantest

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/settings"
)

// log is what the engine of a launch has said.
func log(t testing.TB, p *provisioner.EngineProvisioner) string {
	t.Helper()
	text, err := os.ReadFile(p.Status().Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A GPU that is required is listed by the executable, chosen, told to the engine, used, and proven.
func TestRequiredIsProven(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		visible string // "" for unset
		devices settings.Devices
		want    []string
	}{
		"all of one":       {"0", nil, []string{"Vulkan0"}},
		"by default":       {"", nil, []string{"Vulkan0"}},
		"all of two":       {"0,0", nil, []string{"Vulkan0", "Vulkan1"}},
		"the second":       {"0,0", settings.Devices{"Vulkan1"}, []string{"Vulkan1"}},
		"by index":         {"", settings.Devices{"0"}, []string{"Vulkan0"}},
		"as few as needed": {"", settings.Devices{"auto"}, []string{"Vulkan0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := replica(t)
			cfg.GPU, cfg.Devices = engine.GPURequired, tt.devices
			if tt.visible != "" {
				cfg.Env = map[string]settings.EnvValue{visible: {Value: tt.visible}}
			}
			p, h := ready(t, cfg)
			if !slices.Equal(h.Devices, tt.want) || !strings.Contains(strings.Join(h.Args, " "), "--device "+strings.Join(tt.want, ",")) {
				t.Errorf("the handoff names %q, and the engine was started with %q", h.Devices, h.Args)
			}
			on := weightsOn(t, log(t, p))
			for device, mib := range on {
				if !strings.HasPrefix(device, "CPU") && !strings.HasSuffix(device, "_Host") && mib > 0 && !slices.Contains(tt.want, device) {
					t.Errorf("%.2f MiB of weights are on %s", mib, device)
				}
			}
			for _, device := range tt.want {
				if on[device] == 0 {
					t.Errorf("no weights are on %s: %v", device, on)
				}
			}
		})
	}
}

// Flags that put all weights on the CPU, a device that is not there, and an index of which Vulkan has none: none of them is
// ready, though the engine itself would serve in each case.
func TestRequiredIsRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*provisioner.ProvisionConfig)
		want   string
	}{
		"weights on the CPU": {func(cfg *provisioner.ProvisionConfig) {
			cfg.Flags = append(cfg.Flags, "--n-gpu-layers", "999", "--override-tensor", ".*=CPU")
		}, "the engine put no weights on a GPU: it has "},
		"no device by flag": {func(cfg *provisioner.ProvisionConfig) {
			cfg.Flags = append(cfg.Flags, "--device", "none")
		}, `of none leaves the GPU idle while "gpu" is required`},
		"a device that is absent": {func(cfg *provisioner.ProvisionConfig) {
			cfg.Devices = settings.Devices{"Vulkan7"}
		}, `cannot use GPU "Vulkan7": there is no such GPU; there are: `},
		"an index that is absent": {func(cfg *provisioner.ProvisionConfig) {
			cfg.Env = map[string]settings.EnvValue{visible: {Value: "7"}}
		}, "cannot use the GPU: "},
		"no driver": {func(cfg *provisioner.ProvisionConfig) {
			cfg.Env = map[string]settings.EnvValue{"VK_DRIVER_FILES": {Value: "/nonexistent.json"}}
		}, "cannot use the GPU: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := replica(t)
			cfg.GPU = engine.GPURequired
			tt.change(&cfg)
			p, err := provisioner.New(cfg, provisioner.WithCacheDir(t.TempDir()))
			if err == nil {
				if err = p.Start(bounded(t)); err == nil {
					_, err = p.WaitReady(bounded(t))
				}
				t.Cleanup(func() { _ = p.Stop(bounded(t)) })
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			_, ofGPU := errors.AsType[*provisioner.GPUError](err)
			_, ofConfig := errors.AsType[*provisioner.ConfigError](err)
			if !ofGPU && !ofConfig {
				t.Errorf("%T", err)
			}
		})
	}
}

// Where no GPU can be used, an optional one is none, and the plan says why.
func TestOptionalFallsBack(t *testing.T) {
	t.Parallel()
	cfg := replica(t)
	cfg.GPU = engine.GPUOptional
	cfg.Env = map[string]settings.EnvValue{visible: {Value: "7"}}
	plan, err := node.Plan(bounded(t), cfg, provisioner.WithCacheDir(t.TempDir()))
	if err != nil || !slices.ContainsFunc(plan.Notes, func(note string) bool { return strings.HasPrefix(note, "gpu: no GPU is used: ") }) {
		t.Errorf("notes %q (%v)", plan.Notes, err)
	}
	p, h := ready(t, cfg)
	for device, mib := range weightsOn(t, log(t, p)) {
		if !strings.HasPrefix(device, "CPU") {
			t.Errorf("%.2f MiB of weights are on %s", mib, device)
		}
	}
	if len(h.Devices) > 0 {
		t.Errorf("the handoff names %q", h.Devices)
	}
}
