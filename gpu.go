package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/fit"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/neighbors"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Sentinel errors that a [GPUError] wraps.
var (
	// ErrNoDriver is the cause where the node has no GPU with a working driver, or this build cannot talk to it.
	ErrNoDriver = gpu.ErrNoDriver
	// ErrNoGPU is the cause where the driver works but there is no GPU that could be used.
	ErrNoGPU = gpu.ErrNone
)

// ErrNoMemory is wrapped by the [StartError] of a replica whose model does not fit into the memory that is free, under
// "fit: require".
var ErrNoMemory = fit.ErrNoMemory

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

// gpuDoubt reports whether a launch owes the proof that the present settings ask for: it was made without that.
func gpuDoubt(cfg ProvisionConfig, was launchRecord) bool {
	return cfg.GPU == engine.GPURequired && was.GPU != engine.GPURequired
}

func gpuDifference(cfg ProvisionConfig, was launchRecord, why string) report.Difference {
	return report.Difference{Key: "gpu", Why: why, Was: string(was.GPU), Now: string(cfg.GPU)}
}

// gpuLack is by what a launch that was made without a GPU differs from settings that require one.
func gpuLack(cfg ProvisionConfig, was launchRecord) (lack []report.Difference) {
	if gpuDoubt(cfg, was) && len(was.GPUs) == 0 {
		lack = append(lack, gpuDifference(cfg, was, "it runs without a GPU"))
	}
	return lack
}

// lacksGPU says why an adopted engine does not meet "gpu: required". It serves all the same, as it did before: it is outdated,
// and not ready in the sense of its settings. One that still loads, on GPUs, is not asked. One that was proven under an earlier
// manager is looked at again, since that may have known less of what to look for.
func (p *EngineProvisioner) lacksGPU(ctx context.Context, cfg ProvisionConfig) error {
	was := p.run.rec.Launch
	owes := gpuDoubt(cfg, was)
	if !owes && (cfg.GPU != engine.GPURequired || !p.found) {
		return nil
	}
	err := errors.New("it was started without one")
	if !owes || len(was.GPUs) > 0 {
		if _, ready := p.Handoff(); !ready {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, recoveryBudget)
		defer cancel()
		if err = p.checkGPU(ctx, p.run, !owes); err == nil {
			return nil
		}
		gpu, ok := errors.AsType[*GPUError](err)
		switch {
		case ok:
			err = gpu.Err
		case !owes:
			return nil // it could not be looked at
		}
	}
	return &GPUError{
		Err:    fmt.Errorf("the adopted engine does not meet \"gpu: required\": %w", err),
		Advice: "it serves on; reload replaces it where there is a GPU",
	}
}

// adviseMemory puts the numbers of the estimate into the advice on a lack of memory, and returns them; "" where nothing
// can be told.
func (p *launchPlan) adviseMemory() string {
	numbers := p.memory.Numbers(fit.RunOf(p.spec.GGUF), p.GPUs)
	if numbers == "" {
		return ""
	}
	advice := map[engine.Cause]string{}
	maps.Copy(advice, p.spec.Advice)
	for _, cause := range []engine.Cause{engine.CauseOOMGPU, engine.CauseOOMHost} {
		advice[cause] = cmp.Or(advice[cause], diagnosis.Advice(cause)) + "; " + numbers
	}
	p.spec.Advice = advice
	return numbers
}

// memoryCheck looks at the machine and the replicas that are loading. It is nil when the engine's memory cannot be
// estimated, as the model is not here or none of GGUF, or nobody wants to know.
func (o *options) memoryCheck(ctx context.Context, cfg ProvisionConfig, prepared Prepared, driver gpu.Driver) *fit.Check {
	if prepared.gguf == nil || cfg.GPU == engine.GPUUnmanaged || cfg.Fit == "off" && !cfg.Devices.Auto() {
		return nil
	}
	held := func() map[int]uint64 {
		memory, _ := driver.Processes(nil)
		return gpu.ByProcess(memory)
	}
	return &fit.Check{
		Model: prepared.gguf, File: fit.FileOf(prepared.ModelPath), HostFree: cgroup.MemoryAvailable(),
		Claims: fit.Claim(o.others(ctx, cfg), held),
	}
}

// fewest chooses for "devices: auto"; see [fit.Check.Fewest].
func fewest(memory *fit.Check, gpus []engine.GPU, describe func([]engine.GPU) (engine.LaunchSpec, error)) ([]engine.GPU, error) {
	return memory.Fewest(gpus, func(some []gpu.Device) (*fit.Run, int, error) {
		spec, err := describe(some)
		return fit.RunOf(spec.GGUF), spec.GPUs, err
	})
}

// others are the launches of the replicas of a state directory beside cfg.
func (o *options) others(ctx context.Context, cfg ProvisionConfig) (others []fit.Other) {
	look := neighbors.Seen
	if cfg.reserves() { // somebody is refused for it
		look = neighbors.In
	}
	company, err := look(cfg.StateDir, func(state string) bool { return State(state).Final() })
	if err != nil {
		return nil // there is none yet
	}
	for _, n := range company {
		if n.Files.Stem == cfg.fileStem() || !n.Locked && !o.lives(ctx, n) {
			continue
		}
		loads := State(n.State) == StateStarting || State(n.State) == StatePreparing
		others = append(others, fit.Other{
			Model: n.Launch.ModelPath, PID: n.Process.PID, GPUs: len(n.Launch.GPUs), Loading: loads && !n.Published, Memory: n.Launch.Memory,
		})
	}
	return others
}

// lives reports whether a launch whose lock nobody holds has not ended all the same.
func (o *options) lives(ctx context.Context, other neighbors.Neighbor) bool {
	if other.Launch.Mode != perform.ModeContainer || State(other.State) == StatePreparing {
		return false // a container holds no lock, but its start does
	}
	rec, err := readRecord(other.Files)
	if err != nil {
		return false
	}
	inst, err := o.find(ctx, other.Files, rec)
	if err != nil {
		return true // the runtime cannot be asked: rather too little memory than too much
	}
	defer inst.Release()
	return !inst.Exited()
}

// reserves reports whether a start must not count on memory that another start counts on at the same time.
func (c ProvisionConfig) reserves() bool { return c.Fit == "require" || c.Devices.Auto() }

// reserveMemory keeps other provisioners of the state directory from counting on the same memory until this launch has
// recorded what it takes.
func reserveMemory(ctx context.Context, f state.Files) (release func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, reservePatience, ErrBusy)
	defer cancel()
	lock, err := state.AwaitLock(ctx, filepath.Join(f.State, "memory.lock"), func() {})
	if err != nil {
		return nil, fmt.Errorf("cannot reserve memory: %w", err)
	}
	return sync.OnceFunc(lock.Release), nil
}

// reservePatience is how long a launch waits for others that reserve memory: each takes milliseconds, but seconds where the
// driver has to wake its GPUs first.
const reservePatience = time.Minute
