package provisioner

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Sentinel errors that a [GPUError] wraps.
var (
	// ErrNoDriver is the cause where the node has no GPU with a working driver, or this build cannot talk to it.
	ErrNoDriver = gpu.ErrNoDriver
	// ErrNoGPU is the cause where the driver works but there is no GPU that could be used.
	ErrNoGPU = gpu.ErrNone
)

// gpuChoice is which GPUs a replica gets, and what confines it to them.
type gpuChoice struct {
	gpu.Choice
	build gpu.Build
}

// chooseGPUs chooses the devices of a replica of which the executable is known, or the zero value.
func (o *options) chooseGPUs(ctx context.Context, cfg ProvisionConfig, program engine.Program, binary engine.Binary, driver gpu.Driver) (gpuChoice, error) {
	if cfg.GPU == engine.GPUNone || cfg.GPU == engine.GPUUnmanaged {
		return gpuChoice{}, nil
	}
	found, err := gpu.Ask(ctx, func() (gpu.Inventory, error) { return gpu.Take(driver), nil })
	if err != nil {
		return gpuChoice{}, err
	}
	build := o.gpuBuild(ctx, cfg, program, binary, found)
	choice, err := gpu.Select(gpu.Policy(cfg.GPU), deviceNames(cfg.Devices), found, build)
	return gpuChoice{choice, build}, gpuError(err)
}

// gpuBuild is what is known of the GPUs that an executable can use. One that cannot tell is not known.
func (o *options) gpuBuild(ctx context.Context, cfg ProvisionConfig, program engine.Program, binary engine.Binary, found gpu.Inventory) gpu.Build {
	build := gpu.Build{What: "this " + cmp.Or(program.Command, "engine")}
	switch {
	case cfg.contained():
		build.What, build.Runtime = "this image", gpu.RuntimeOfImage(binary.Path)
	case binary.Path == "":
	case program.Distribution != "":
		build.Python, build.Runtime = true, gpu.RuntimeOf(o.supply.inspector(cfg).Accelerator(binary, program))
	default:
		listed, words, err := o.supply.inspector(cfg).Devices(ctx, binary, program, plainEnv(cfg), found.String())
		if err == nil && listed != nil {
			build.Asked, build.Listed, build.Words = true, listed, words
		}
	}
	return build
}

// deviceNames are what the configuration calls its devices; none where a start chooses.
func deviceNames(d settings.Devices) []string {
	if d.Auto() {
		return nil
	}
	names := make([]string, len(d))
	for i, name := range d {
		names[i] = string(name)
	}
	return names
}

// env confines an engine to its GPUs, or hides all of them from it. What the user says of devices stays.
func (c gpuChoice) env(cfg ProvisionConfig, gpus []engine.GPU) map[string]string {
	env := gpu.Env(gpu.Policy(cfg.GPU), gpus, c.build)
	maps.DeleteFunc(env, func(name, _ string) bool {
		_, said := cfg.Env[name]
		// A container is given no other devices of the kernel's, which it then counts anew.
		return said || cfg.contained() && len(gpus) > 0 && !gpu.OfNVIDIA(name)
	})
	return env
}

// notes are what is worth knowing of the choice before a start.
func (c gpuChoice) notes(cfg ProvisionConfig) (notes []string) {
	if c.Why != "" {
		notes = append(notes, "gpu: no GPU is used: "+c.Why)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Env)) {
		if gpu.Decides(name) && cfg.GPU != engine.GPUUnmanaged {
			notes = append(notes, "env."+name+": it decides which GPUs the engine sees, and is left as it is")
		}
	}
	return notes
}

// gpuDriver is the node's, unless a test has put its own in place.
func (o *options) gpuDriver() gpu.Driver {
	if o.Hooks.GPUs != nil {
		return o.Hooks.GPUs
	}
	return gpu.Node()
}

// AwaitGPUs returns when the GPUs of a launch that has ended have got back the memory that its engine took, and at once
// where it had none: the next engine that starts sooner runs out of memory that nobody uses. It gives up when no more comes
// back, as where a neighbour whom the driver does not show has taken it, and after half a minute: that is a note and no error.
// The error is ctx's cause.
func (p *EngineProvisioner) AwaitGPUs(ctx context.Context) error {
	p.mu.Lock()
	r := p.run
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	all, err := gpu.AwaitMemory(ctx, p.opts.gpuDriver(), gpu.Use{GPUs: r.rec.Launch.GPUs, Held: r.others})
	if err == nil && !all {
		p.note("its GPUs have less free memory than before its start, and no more comes back: others may have taken it")
	}
	return err
}

// evidence is what an engine's own words tell of its use of GPUs.
func evidence(spec engine.LaunchSpec, log []string) gpu.Evidence {
	words := gpu.Words{Fallback: spec.NoGPU, Buffers: spec.Buffers, Devices: spec.Devices, Layers: spec.Offload}
	return gpu.Evidence{Words: words, Log: log}
}

// gpuError is the error as programs match it.
func gpuError(err error) error {
	if e, ok := errors.AsType[*gpu.Error](err); ok {
		return (*GPUError)(e)
	}
	return err
}
