// Package vulkantest holds the promises about GPUs against a real device: the processor, which Mesa's llvmpipe makes a GPU
// for Vulkan, and a llama-server with the backend for it. It has tests alone; "make test-vulkan" runs them. What it does not
// show is what such a device lacks: a PCI address, a file below /dev, and memory of its own.
package vulkantest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/settings"
)

// llamaServer is the engine of these tests: ENGINE_PROVISIONER_VULKAN, which "make test-vulkan" sets.
func llamaServer(t testing.TB) string {
	t.Helper()
	path := os.Getenv("ENGINE_PROVISIONER_VULKAN")
	if path == "" {
		t.Skip("needs a llama-server with a software GPU: run make test-vulkan")
	}
	return path
}

// bounded is long enough for shaders that nobody has compiled yet, on a busy machine.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// visible is the variable by which ggml's backend for Vulkan chooses devices.
const visible = "GGML_VK_VISIBLE_DEVICES"

// replica is one of the engine, with a generated model, which logs where it puts what.
func replica(t testing.TB) provisioner.ProvisionConfig {
	t.Helper()
	path, dir := llamaServer(t), t.TempDir()
	model := filepath.Join(dir, "model.gguf")
	if err := ggufgen.WriteFile(model, ggufgen.Params{Width: 256, Layers: 4}); err != nil {
		t.Fatal(err)
	}
	return provisioner.ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "llamacpp", Port: enginetest.FreePort(t, 1), Model: settings.Model{ID: model},
		Flags:        []string{"--ctx-size", "256", "--threads", "1", "--verbosity", "4"},
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: path}},
	}
}

// ready starts a replica, waits until it has answered, and stops it when the test ends.
func ready(t testing.TB, cfg provisioner.ProvisionConfig) (*provisioner.EngineProvisioner, provisioner.Handoff) {
	t.Helper()
	p, err := provisioner.New(cfg, provisioner.WithCacheDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if exit := p.Status().Exit; exit != "code 0" {
			t.Errorf("it ended with %q", exit)
		}
	})
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	h, err := p.WaitReady(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if h.Answer != "ok" {
		t.Errorf("the answer proof found %q", h.Answer)
	}
	return p, h
}

var (
	listedDevice = regexp.MustCompile(`(?m)^  (\S+): llvmpipe `)
	weights      = regexp.MustCompile(`load_tensors: +(\S+) model buffer size = +([\d.]+) MiB`)
)

// weightsOn is where an engine has put the model, in MiB by device, as its log says.
func weightsOn(t testing.TB, log string) map[string]float64 {
	t.Helper()
	on := map[string]float64{}
	for _, m := range weights.FindAllStringSubmatch(log, -1) {
		mib, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		on[m[1]] += mib
	}
	if len(on) == 0 {
		t.Fatalf("the log says nothing of weights:\n%s", log)
	}
	return on
}

// The engine's own word on its devices, which everything else rests on.
func TestEngineListsDevices(t *testing.T) {
	t.Parallel()
	path := llamaServer(t)
	for devices, want := range map[string][]string{
		"unset": {"Vulkan0"}, "0": {"Vulkan0"}, "0,0": {"Vulkan0", "Vulkan1"}, "": nil, "7": nil,
	} {
		cmd := exec.CommandContext(bounded(t), path, "--list-devices")
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, visible+"=") })
		if devices != "unset" {
			cmd.Env = append(cmd.Env, visible+"="+devices)
		}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s=%q: %v", visible, devices, err)
		}
		var got []string
		for _, m := range listedDevice.FindAllStringSubmatch(string(out), -1) {
			got = append(got, m[1])
		}
		if !slices.Equal(got, want) || strings.Contains(string(out), "(none)") != (want == nil) {
			t.Errorf("%s=%q lists %q, want %q:\n%s", visible, devices, got, want, out)
		}
	}
}

// Without a GPU none is used, whatever is there.
func TestNoneHidesTheDevice(t *testing.T) {
	t.Parallel()
	cfg := replica(t)
	cfg.GPU = engine.GPUNone
	p, h := ready(t, cfg)
	for device, mib := range weightsOn(t, log(t, p)) {
		if !strings.HasPrefix(device, "CPU") {
			t.Errorf("%.2f MiB of weights are on %s", mib, device)
		}
	}
	if h.DeviceMask != "" || len(h.Devices) > 0 {
		t.Errorf("the handoff names devices: %q, %q", h.DeviceMask, h.Devices)
	}
}

// What the user says of devices is the user's alone, where they are not managed.
func TestUnmanagedIsLeftAlone(t *testing.T) {
	t.Parallel()
	cfg := replica(t)
	cfg.GPU = engine.GPUUnmanaged
	cfg.Env = map[string]settings.EnvValue{visible: {Value: "0,0"}}
	cfg.Flags = append(cfg.Flags, "--device", "Vulkan1")
	p, _ := ready(t, cfg)
	if on := weightsOn(t, log(t, p)); on["Vulkan1"] == 0 || on["Vulkan0"] != 0 {
		t.Errorf("the weights are on %v", on)
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Status().PID))
	if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), visible+"=0,0") {
		t.Errorf("the engine's environment lacks %s=0,0 (%v)", visible, err)
	}
}
