package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/advertise"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/ephemeral"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/fit"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/shm"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Prepare gets the executable and the model onto this node, without starting anything. Start does it by itself where
// something is missing; Prepare also looks whether what was asked for by a name that can move, such as a branch, is
// another by now. What it returns is what Start runs, whatever such a name means by then; where somebody has changed the files
// themselves, and of containers, Start finds out anew. It can be repeated and canceled at any time, and two programs may do it
// at once: one works, and the other waits and uses the result. Events of the kind EventProgress tell how far it is. The errors
// are those of Start; of a launch that [Attach] or [Recover] has found, it is ErrStarted.
func (p *EngineProvisioner) Prepare(ctx context.Context) (Prepared, error) {
	if err := p.unknown("prepare"); err != nil {
		return Prepared{}, err
	}
	ctx, cancel := p.within(ctx)
	defer cancel(nil)
	prepared, err := Prepared{}, context.Cause(ctx) // where all is there, nothing else looks at it
	if err == nil {
		prepared, err = p.opts.prepare(ctx, p.cfg, p.engine, p)
	}
	if err != nil {
		err = p.startErrorIn(ctx, err)
		if start, ok := errors.AsType[*StartError](err); ok {
			start.preparing = true
		}
		return Prepared{}, err
	}
	return p.decided(prepared), nil
}

// prepare gets what a launch needs. The model comes last: it is the largest, and of no use without an executable.
func (o *options) prepare(ctx context.Context, cfg ProvisionConfig, e Engine, tell listener) (_ Prepared, err error) {
	defer caught.Into(&err, o.logger, cfg.Name())
	program := programOf(e, cfg)
	finder := o.supply.models(cfg)
	model, err := finder.Find(ctx, cfg.model(program.Model), true)
	if err != nil {
		return Prepared{}, err
	}
	binary, err := o.fetch(ctx, cfg, program, tell)
	if err == nil {
		err = finder.Fetch(ctx, &model, func(p models.Progress) {
			tell.progress(report.Progress{
				Step: report.StepDownload, What: p.What, Done: p.Done, Total: p.Total,
				Rate: p.Rate, Remaining: p.Remaining, Waiting: p.Waiting, Holder: p.Holder,
			})
		})
	}
	return Prepared{Binary: binary, ModelPath: model.Path, gguf: model.Header, revision: model.Revision, beside: model.Beside}, err
}

// foresee is prepare as far as that goes without getting anything; pending says what there is to get, for which key.
func (o *options) foresee(ctx context.Context, cfg ProvisionConfig, e Engine) (prepared Prepared, pending []report.Difference, err error) {
	defer caught.Into(&err, o.logger, cfg.Name())
	program := programOf(e, cfg)
	model, err := o.supply.models(cfg).Find(ctx, cfg.model(program.Model), false)
	if err != nil {
		return Prepared{}, nil, err
	}
	prepared.ModelPath, prepared.gguf, prepared.revision, prepared.beside = model.Path, model.Header, model.Revision, model.Beside
	if model.Pending != "" {
		pending = append(pending, report.Difference{Key: "model.id", Why: model.Pending})
	}
	binary, toDo, err := o.locate(ctx, cfg, program)
	switch {
	case err != nil:
		return Prepared{}, nil, err
	case toDo != "":
		return prepared, append(pending, report.Difference{Key: cfg.executableKey(), Why: toDo}), nil
	}
	prepared.Binary = binary
	return prepared, pending, nil
}

// foreseen is what Start runs, as far as that is here; pending says what there is to get, for which key.
func (p *EngineProvisioner) foreseen(ctx context.Context) (prepared Prepared, pending []report.Difference, err error) {
	if prepared, stands := p.decision(); stands {
		return prepared, nil, nil
	}
	prepared, pending, err = p.opts.foresee(ctx, p.cfg, p.engine)
	if err == nil && len(pending) == 0 {
		prepared = p.decided(prepared)
	}
	return prepared, pending, err
}

// prepared is what a launch needs, which is got where it is missing.
func (p *EngineProvisioner) prepared(ctx context.Context) (Prepared, error) {
	prepared, pending, err := p.foreseen(ctx)
	if err != nil || len(pending) == 0 && !p.cfg.pullsAlways() {
		return prepared, err
	}
	// A wrong flag or a missing GPU shall be known before hours of download.
	if _, err := p.opts.plan(ctx, p.cfg, prepared); err != nil {
		return Prepared{}, err
	}
	if prepared, err = p.opts.prepare(ctx, p.cfg, p.engine, p); err != nil {
		return Prepared{}, err
	}
	return p.decided(prepared), nil
}

// ownFlags are those that no other key than "flags" says, such as the model or the address: the user's and the defaults.
func (p launchPlan) ownFlags() []engine.Flag {
	return slices.DeleteFunc(slices.Clone(p.Flags), func(f engine.Flag) bool { return f.Origin == engine.OriginProvisioner })
}

// argsIn are the arguments of a launch whose temporary folder is temp. What the user wrote is left as it is.
func argsIn(temp string, flags []engine.Flag) []string {
	args := []string{}
	for _, f := range flags {
		for _, arg := range f.Args {
			if f.Origin != engine.OriginConfig {
				arg = strings.ReplaceAll(arg, engine.TempDirPlaceholder, temp)
			}
			args = append(args, arg)
		}
	}
	return args
}

// Plan returns what Start would run on this host, and does: of an executable and a model that are here, as after Prepare. Nothing
// is started but the executable's own --version and --help, and nothing is written but what is learned from them, in the cache.
// The errors are those of Start; of a launch that [Attach] or [Recover] has found, it is ErrStarted.
func (p *EngineProvisioner) Plan(ctx context.Context) (report.Plan, error) {
	if err := p.unknown("plan"); err != nil {
		return report.Plan{}, err
	}
	prepared, pending, err := p.foreseen(ctx)
	if err != nil {
		return report.Plan{}, p.startErrorIn(ctx, err)
	}
	plan, err := p.opts.plan(ctx, p.cfg, prepared)
	if err != nil {
		return report.Plan{}, p.startErrorIn(ctx, err)
	}
	plan.LeftBehind = leftBehind(p.cfg, p.engine, plan.host, plan.Env)
	for _, first := range pending {
		plan.Pending = append(plan.Pending, first.Why)
	}
	if numbers := plan.adviseMemory(); len(fit.Lacking(plan.Memory)) > 0 {
		plan.Notes = append(plan.Notes, "memory: "+numbers)
	}
	return plan.Plan, nil
}

// unknown is the error of what takes the configuration of a launch that another provisioner has started.
func (p *EngineProvisioner) unknown(what string) error {
	if !p.found {
		return nil
	}
	return fmt.Errorf("cannot %s %s: %w by another provisioner, and its configuration is not known here", what, p.cfg.Name(), ErrStarted)
}

// launchPlan is a LaunchPlan with what only Start needs.
type launchPlan struct {
	report.Plan
	spec   engine.LaunchSpec
	host   engine.Host
	files  state.Files
	places places
	memory *fit.Check
	// devices is what confines the engine to its GPUs: variables of its environment.
	devices map[string]string
	reached string // the host by which others reach it; "" means as this machine does
}

func (o *options) plan(ctx context.Context, cfg ProvisionConfig, prepared Prepared) (_ launchPlan, err error) {
	defer caught.Into(&err, o.logger, cfg.Name())
	e, _ := o.engine(cfg.Engine)
	host := engine.Host{Binary: prepared.Binary, ModelPath: prepared.ModelPath, ModelRevision: prepared.revision}
	for _, c := range prepared.beside {
		host.Beside = append(host.Beside, engine.Companion(c))
	}
	driver := o.gpuDriver()
	program := programOf(e, cfg)
	choice, err := o.chooseGPUs(ctx, cfg, program, prepared.Binary, driver)
	if err != nil {
		return launchPlan{}, err
	}
	gpus := choice.GPUs
	memory := o.memoryCheck(ctx, cfg, prepared, driver)
	if cfg.Devices.Auto() {
		gpus, err = fewest(memory, gpus, func(some []engine.GPU) (engine.LaunchSpec, error) {
			host.GPUs = some
			return describe(e, cfg, host)
		})
		if err != nil {
			return launchPlan{}, err
		}
	}
	host.GPUs = gpus
	spec, err := describe(e, cfg, host)
	if err != nil {
		return launchPlan{}, err
	}
	if len(gpus) > 0 && len(gpus) < spec.GPUs {
		return launchPlan{}, &GPUError{
			Err:    fmt.Errorf("the flags ask for %d GPUs, and the replica has %d", spec.GPUs, len(gpus)),
			Advice: `change "flags" or "devices"`,
		}
	}
	if program.Model == engine.ModelFolder && host.ModelPath != "" {
		if err := models.CheckFolder(host.ModelPath, spec.SpecialModel, spec.Context); err != nil {
			return launchPlan{}, err
		}
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return launchPlan{}, fmt.Errorf("cannot find the working directory: %w", err)
	}
	files, err := filesOf(cfg.StateDir, cfg.fileStem())
	if err != nil {
		return launchPlan{}, err
	}
	reached, err := advertise.Host(cfg.Advertise)
	if err != nil {
		return launchPlan{}, err
	}
	last, _ := readRecord(files)
	grace := spec.Grace
	if cfg.Stop.Grace > 0 {
		grace = time.Duration(cfg.Stop.Grace)
	}
	devices := choice.env(cfg, gpus)
	plan := launchPlan{spec: spec, host: host, reached: reached, files: files, places: o.supply.of(cfg), memory: memory, devices: devices}
	plan.Plan = report.Plan{
		Pool: cfg.PoolID, Replica: cfg.ReplicaID, Engine: e.Name(), Version: prepared.Binary.Version,
		Binary: prepared.Binary.Path, Dir: dir, Flags: spec.Flags, Env: plannedEnv(cfg, spec, devices),
		Model: prepared.ModelPath, URL: probe.URL(cmp.Or(reached, port.Loopback(cfg.Host)), cfg.Port), GPUs: gpus, Grace: settings.Duration(grace),
		Record: files.Record(), Log: files.Log(last.Generation + 1), Handoff: files.Handoff(),
		Memory: memory.Needs(fit.RunOf(spec.GGUF), gpus), Notes: ephemeral.OfKernel().Notes(cfg.Port, spec.Ports),
	}
	for _, n := range spec.Notes {
		plan.Notes = append(plan.Notes, n.Key+": "+n.Message)
	}
	plan.Notes = append(plan.Notes, choice.notes(cfg)...)
	plan.Notes = append(plan.Notes, config.OpenNotes(cfg.Host, cfg.Expose, cfg.APIKey != nil)...)
	plan.Notes = append(plan.Notes, config.LocalNotes(cfg.Host, cfg.Advertise, cfg.Handoff.Dir)...)
	if cfg.tied() {
		plan.Notes = append(plan.Notes, `on_manager_exit: when the manager is killed, the kernel kills the main process alone; `+
			`what that has started and does not end by itself stays until the next manager or "stop"`)
	}
	return plan, nil
}

// describe has the engine describe the launch.
func describe(e Engine, cfg ProvisionConfig, host engine.Host) (engine.LaunchSpec, error) {
	spec, err := launchOf(e, cfg.inside(), host)
	if cfg.bridged() {
		spec.Ports = nil // those are the container's own
	}
	return spec, err
}

// loadGrace is the engine's, unless the configuration says how long an engine is given.
func (p launchPlan) loadGrace(cfg ProvisionConfig) settings.Duration {
	if cfg.Stop.Grace > 0 {
		return 0
	}
	return settings.Duration(p.spec.LoadGrace)
}

// launchRecord is what the plan leaves in the record.
func (p launchPlan) launchRecord(cfg ProvisionConfig) launchRecord {
	l := launchRecord{
		ConfigHash: p.hash(cfg), Mode: cfg.Provisioning.Mode, Digest: p.host.Binary.Digest, ModelPath: p.host.ModelPath,
		Args: p.Args(), Spec: recordedSpec{LaunchSpec: p.spec}, GPU: cfg.GPU, GPUs: p.GPUs, Ready: cfg.Ready,
		Memory: p.Memory, Files: p.modelFiles(), Footprint: p.footprint(cfg), Places: p.places,
	}
	if cfg.APIKey != nil {
		l.Secrets = append(l.Secrets, *cfg.APIKey)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Env)) {
		if secret := cfg.Env[name].Secret; secret != nil {
			l.Secrets = append(l.Secrets, *secret)
		}
	}
	return l
}

// shmNamed is what the configuration names in /dev/shm. Secrets are not looked into: none of them is a path.
func (p launchPlan) shmNamed(cfg ProvisionConfig) []string {
	texts := append([]string{cfg.Model.ID, p.host.ModelPath, p.host.Binary.Path}, p.Args()...)
	for _, v := range environment(cfg, p.spec, p.devices, secrets{}, nil) {
		texts = append(texts, v.value)
	}
	return shm.Named(p.Dir, texts)
}

// modelFiles are the files that a launch reads its model from, as they are at its start.
func (p launchPlan) modelFiles() []filestamp.Stamp {
	paths := models.Parts(p.host.ModelPath)
	if p.spec.GGUF != nil {
		for _, path := range p.spec.GGUF.Beside {
			if !filepath.IsAbs(path) {
				path = filepath.Join(p.Dir, path)
			}
			paths = append(paths, path)
		}
	}
	return filestamp.Of(paths...)
}

// Rehearse does what Start can do while another engine of the replica runs: it gets what is missing, and finds out what can
// be found out without a free port, and returns what Start would run. The executable and the model are those that Start runs,
// as after Prepare; GPUs and memory are looked at again, since others take them and give them back. The errors are those of Start.
func (p *EngineProvisioner) Rehearse(ctx context.Context) (report.Plan, error) {
	ctx, cancel := p.within(ctx)
	defer cancel(nil)
	prepared, err := p.prepared(ctx)
	if err != nil {
		return report.Plan{}, err
	}
	plan, err := p.opts.plan(ctx, p.cfg, prepared)
	return plan.Plan, err
}
