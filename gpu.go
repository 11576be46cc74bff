package provisioner

import (
	"context"
	"errors"
	"fmt"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
)

// Sentinel errors that a [GPUError] wraps.
var (
	// ErrNoDriver is the cause where the node has no working NVIDIA driver, or this build cannot talk to it.
	ErrNoDriver = gpu.ErrNoDriver
	// ErrNoGPU is the cause where the driver works but there is no GPU that could be used.
	ErrNoGPU = gpu.ErrNone
)

// DetectGPUs lists the node's NVIDIA GPUs in PCI bus order, each followed by its MIG partitions. A GPU in a bad state
// is listed with its Problem. A node without a driver or a device is a *GPUError that wraps [ErrNoDriver] or [ErrNoGPU].
//
// A driver that hangs cannot be interrupted: when ctx ends first, its error comes back and the question is left behind.
func DetectGPUs(ctx context.Context) ([]engine.GPU, error) {
	devices, err := gpu.List(ctx, gpu.Node())
	return gpusOf(devices), gpuError(err)
}

// selectGPUs are the devices that a replica gets; none means that it runs on the CPU.
func selectGPUs(ctx context.Context, cfg ProvisionConfig, d gpu.Driver) ([]engine.GPU, error) {
	devices, err := gpu.Ask(ctx, func() ([]gpu.Device, error) { return gpu.Select(gpu.Policy(cfg.GPU), cfg.Devices.names(), d) })
	return gpusOf(devices), gpuError(err)
}

// names are what the configuration calls its devices; none where a start chooses.
func (d Devices) names() []string {
	if d.auto() {
		return nil
	}
	names := make([]string, len(d))
	for i, name := range d {
		names[i] = string(name)
	}
	return names
}

// gpuEnv confines an engine to its GPUs, or hides all of them from it.
func gpuEnv(cfg ProvisionConfig, gpus []engine.GPU) map[string]string {
	return gpu.Env(gpu.Policy(cfg.GPU), devicesOf(gpus))
}

// gpuDriver is the node's, unless a test has put its own in place.
func (o *options) gpuDriver() gpu.Driver {
	if o.gpus != nil {
		return o.gpus
	}
	return gpu.Node()
}

// AwaitGPUs returns when the GPUs of a launch that has ended have got back the memory that its engine took, and at once
// where it had none: the next engine that starts sooner runs out of memory that nobody uses. The error is ErrBusy when that
// takes more than half a minute, or ctx's cause.
func (p *EngineProvisioner) AwaitGPUs(ctx context.Context) error {
	p.mu.Lock()
	r := p.run
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	err := gpu.AwaitMemory(ctx, p.opts.gpuDriver(), gpu.Use{GPUs: devicesOf(r.rec.Launch.GPUs), Held: r.others})
	if errors.Is(err, gpu.ErrBusy) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// evidence is what an engine's own words tell of its use of GPUs.
func evidence(spec engine.LaunchSpec, log []string) gpu.Evidence {
	return gpu.Evidence{NoGPU: spec.NoGPU, Offload: spec.Offload, Log: log}
}

func gpusOf(devices []gpu.Device) []engine.GPU {
	if devices == nil {
		return nil
	}
	gpus := make([]engine.GPU, len(devices))
	for i, d := range devices {
		gpus[i] = engine.GPU(d)
	}
	return gpus
}

func devicesOf(gpus []engine.GPU) []gpu.Device {
	devices := make([]gpu.Device, len(gpus))
	for i, g := range gpus {
		devices[i] = gpu.Device(g)
	}
	return devices
}

// gpuError is the error as programs match it.
func gpuError(err error) error {
	if e, ok := errors.AsType[*gpu.Error](err); ok {
		return (*GPUError)(e)
	}
	return err
}
