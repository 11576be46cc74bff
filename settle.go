package provisioner

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/footprint"
	"github.com/llama-orch/engine-provisioner/internal/values"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Comparison is what a configuration means for a launch that runs; see [EngineProvisioner.Compare].
type Comparison struct {
	// Differs is by what the launch differs from what the configuration would launch. Where it is empty, the engine can run on
	// under the configuration; see [EngineProvisioner.Update].
	Differs []report.Difference
	// Lacks is the *GPUError of an engine that serves, but does not meet "gpu: required"; nil else. Differs says it, too.
	Lacks error

	of   *EngineProvisioner
	cfg  ProvisionConfig
	plan *launchPlan // what cfg would launch; nil when that cannot be told, and what was launched stands
}

// Compare tells by what the running launch differs from what Start would run for a configuration of the same replica, as
// [Differences] does, and whether its engine uses a GPU where cfg asks for that and the launch was made without, or was found
// by [Recover]; one that still loads, on GPUs, is not asked. The error is ErrNotRunning, or says why it cannot be told what Start would run, such
// as a model that is away; the Comparison is good for Update in that case, too.
func (p *EngineProvisioner) Compare(ctx context.Context, cfg ProvisionConfig) (Comparison, error) {
	cfg = cfg.WithDefaults()
	c := Comparison{of: p, cfg: cfg}
	p.mu.Lock()
	r := p.run
	p.mu.Unlock()
	if r == nil || !p.Running() {
		return c, fmt.Errorf("cannot compare %s: %w", cfg.Name(), ErrNotRunning)
	}
	differs, plan, err := p.opts.differences(ctx, cfg, r.rec)
	if err == nil && len(differs) == 0 {
		c.plan = &plan
	}
	c.Lacks = p.lacksGPU(ctx, cfg)
	if c.Lacks != nil && !slices.ContainsFunc(differs, func(d report.Difference) bool { return d.Key == "gpu" }) {
		why := "the use of the GPU was not proven"
		if !gpuDoubt(cfg, r.rec.Launch) {
			why = "it does not use the GPU"
		}
		differs = append(differs, gpuDifference(cfg, r.rec.Launch, why))
	}
	c.Differs = differs
	return c, err
}

// Of reports whether p is the launch that was compared, which [EngineProvisioner.Update] takes alone.
func (c Comparison) Of(p *EngineProvisioner) bool { return c.of == p }

// Update gives the running engine the configuration of a comparison that has no differences: what the provisioner alone acts
// on, such as a grace period, is as it says from now on. It returns the launch to go on with, to which the engine belongs;
// this one is as after Release. When it fails, this launch goes on as it was, or is about to end.
func (p *EngineProvisioner) Update(c Comparison) (*EngineProvisioner, error) {
	switch {
	case !c.Of(p):
		return nil, errors.New("cannot give the running engine other settings: they were compared with another launch")
	case len(c.Differs) > 0:
		return nil, fmt.Errorf("cannot give the running engine other settings (%s): that takes another launch", report.Names(c.Differs))
	case !p.Running():
		return nil, errEnding
	}
	return p.passOn(c.cfg, c.plan)
}

// Settle gives a launch that was found, by [Recover] or a [Manager], the present configuration of its replica: its stop, its
// drain and its handoff are as that says, and what is in the record of an earlier version is brought up to date. An engine
// that was launched differently runs on; the Comparison tells by what, and a note. The launch to go on with is returned, as
// by Update. It is called once, before anything else is done with the launch.
func (p *EngineProvisioner) Settle(ctx context.Context, cfg ProvisionConfig) (*EngineProvisioner, Comparison) {
	c, err := p.Compare(ctx, cfg)
	if err != nil {
		c.Differs = append(c.Differs, report.Difference{Why: "it cannot be told by what"})
	}
	p.mu.Lock()
	p.cfg = c.cfg
	p.mu.Unlock()
	next := p
	switch {
	case err != nil:
		p.note("whether it runs with the present settings cannot be told: " + err.Error())
	case len(c.Differs) > 0:
		p.note("it runs with other settings than those of the configuration (" + report.Names(c.Differs) + "); replace it when it suits")
	default:
		next = p.settleInto(c)
	}
	next.refresh()
	return next, c
}

// settleInto gives an adopted engine the present settings, which make no other launch: those that the provisioner alone acts
// on may have changed since its start, and an earlier version knew less of what to ask it. It returns the launch to go on
// with, which is p itself where there is nothing to change.
func (p *EngineProvisioner) settleInto(c Comparison) *EngineProvisioner {
	was := p.run.rec
	if now := was.under(c.cfg, c.plan); sameText(now, was) {
		return p
	}
	next, err := p.passOn(c.cfg, c.plan)
	switch {
	case errors.Is(err, errEnding):
		return p
	case err != nil:
		p.note("it goes on under the settings of its start: " + err.Error())
		return p
	}
	return next
}

// errEnding says that a launch is about to end, so that nothing about it can be changed any more.
var errEnding = errors.New("its engine is being stopped")

// passOn passes the running engine on to another EngineProvisioner, which has new settings that the provisioner alone
// acts on. A launch's own settings never change: so nobody who looks after it has to wait for a lock, and what a next
// manager would do with the record is what this one does. plan is what the new settings would launch, the same as what
// runs; nil when that cannot be told, and what was launched stands.
//
// p is released by that. When passOn fails, p is as it was, or about to end.
func (p *EngineProvisioner) passOn(cfg ProvisionConfig, plan *launchPlan) (*EngineProvisioner, error) {
	r := p.run
	rec := r.rec.under(cfg, plan)
	rec.Withdrawn = p.isWithdrawn()
	if err := resettle(r.files, rec); err != nil {
		return nil, err
	}
	p.mu.Lock()
	first := p.claim(ErrReleased)
	p.passedOn = first
	p.mu.Unlock()
	if !first {
		return nil, errEnding
	}
	<-p.done
	if !errors.Is(p.Err(), ErrReleased) { // it has ended meanwhile
		return nil, errEnding
	}
	p.unshare(cfg.Handoff.Dir)
	next := newProvisioner(cfg, p.opts)
	next.engine = p.engine
	next.state, next.since, next.heard, next.withdrawn = p.state, p.since, p.heard, rec.Withdrawn
	next.run = &run{
		files: r.files, rec: rec, inst: r.inst, exited: make(chan struct{}), started: r.started, found: r.found,
		killTimeout: r.killTimeout, leaveTime: r.leaveTime, redact: r.redact, key: r.key,
	}
	next.run.asked.Store(r.asked.Load())
	next.run.workers.Store(r.workers.Load())
	if p.state == StateReady {
		slots := cmp.Or(p.handoff.SlotsTotal, rec.Launch.Spec.Slots) // earlier versions published none
		next.handoff = next.run.handoff(proof{p.handoff.EngineVersion, slots, p.handoff.Answer})
		next.handoff.ReadyAt = p.handoff.ReadyAt
		p.opts.Hooks.At("before_publish")
		if !next.withdrawn {
			if _, err := r.rewrite(next.handoff, cfg.Handoff); err != nil { // the old one stands
				next.note(err.Error())
			}
		}
	}
	go next.watch(next.run)
	go next.keep()
	if keys, err := footprint.Keys(p.cfg, cfg); err == nil && len(keys) > 0 {
		next.note("it runs on under new settings: " + strings.Join(keys, ", "))
	}
	return next, nil
}

// Differences tells by which keys the replica's recorded launch, another than this one, differs from what Start would run: another executable,
// arguments, environment, address or GPUs. What has to be downloaded or built for cfg first is a difference, too; what
// only the provisioner acts on, such as a grace period, is none. Executables that are named without a folder, and caches,
// are looked for where the launch did that, whatever this program's environment says.
//
// It is nil when the launch is what Start would run. The error is ErrNotFound when nothing is recorded, or what Plan
// returns.
func (p *EngineProvisioner) Differences(ctx context.Context) ([]report.Difference, error) {
	if err := p.unknown("compare"); err != nil {
		return nil, err
	}
	files, err := filesOf(p.cfg.StateDir, p.cfg.fileStem())
	if err != nil {
		return nil, err
	}
	rec, err := readRecord(files)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: no record in %q", ErrNotFound, files.Dir())
	}
	if err != nil {
		return nil, err
	}
	differs, _, err := p.opts.differences(ctx, p.cfg, rec)
	if err != nil {
		return nil, p.startErrorIn(ctx, err)
	}
	return differs, nil
}

// differences tells by what a launch of cfg would differ from the recorded one, and what it would run if nothing is to be
// got first.
func (o *options) differences(ctx context.Context, cfg ProvisionConfig, rec record) ([]report.Difference, launchPlan, error) {
	there := *o
	there.supply.places = rec.Launch.Places
	engine, _ := o.engine(cfg.Engine)
	same := cfg
	same.Fit = "off" // how much memory there is now makes no difference to what is launched
	same.Advertise = ""
	if c := cfg.Provisioning.Container; cfg.contained() && rec.Runtime != "" && (c == nil || c.RuntimeSocket == "") {
		container := settings.Container{}
		if c != nil {
			container = *c
		}
		container.RuntimeSocket = rec.Runtime
		same.Provisioning.Container = &container
	}
	if cfg.Devices.Auto() && len(rec.Launch.GPUs) > 0 { // the choice would be another today: the engine has taken what was free
		same.Devices = nil
		for _, g := range rec.Launch.GPUs {
			same.Devices = append(same.Devices, settings.Device(g.ID()))
		}
	}
	lack := gpuLack(cfg, rec.Launch)
	prepared, pending, err := there.foresee(ctx, same, engine)
	if err != nil || len(pending) > 0 {
		return pending, launchPlan{}, err
	}
	plan, err := there.plan(ctx, same, prepared)
	if gpu := (*GPUError)(nil); len(lack) > 0 && errors.As(err, &gpu) { // there is none yet that it could run on
		return lack, launchPlan{}, nil
	}
	if err != nil {
		return nil, launchPlan{}, err
	}
	all := slices.Concat(lack, plan.differences(cfg, rec.Launch))
	for _, key := range cfg.rotated(rec.Launch) {
		if !slices.ContainsFunc(all, func(d report.Difference) bool { return d.Key == key }) { // which another reference says already
			all = append(all, report.Difference{Key: key, Why: "the secret changed"})
		}
	}
	return all, plan, nil
}

func (p launchPlan) differences(cfg ProvisionConfig, was launchRecord) []report.Difference {
	if was.Footprint.Empty() {
		if p.hash(cfg) == was.ConfigHash {
			return nil
		}
		return p.guessedDifferences(cfg, was)
	}
	var all []report.Difference
	for _, d := range was.Footprint.Differences(p.footprint(cfg)) {
		if d.Key == cfg.executableKey() && d.Was == d.Now { // of the file, only the digest
			d.Why = "the executable changed"
		}
		all = append(all, d)
	}
	return all
}

// guessedDifferences tells of a launch whose version did not record by what it was made what its command line and its
// executable tell, such as a default that has changed since.
func (p launchPlan) guessedDifferences(cfg ProvisionConfig, was launchRecord) []report.Difference {
	now := footprint.Footprint{Flags: p.footprint(cfg).Flags}
	var all []report.Difference
	if was.Digest != p.host.Binary.Digest {
		all = append(all, report.Difference{Key: cfg.executableKey(), Why: "the executable changed"})
	}
	if !strings.Contains(strings.Join(p.Args(), " "), engine.TempDirPlaceholder) { // which was a folder then
		all = append(all, footprint.Guessed(was.Args, now).Differences(now)...)
	}
	if len(all) == 0 {
		all = []report.Difference{{Why: "the version that launched it did not record by what"}}
	}
	return all
}

// footprint is what makes it the launch that it is. What only the provisioner acts on is not in it.
func (p launchPlan) footprint(cfg ProvisionConfig) footprint.Footprint {
	f := footprint.Footprint{Flags: []footprint.Flag{}}
	for _, flag := range p.Flags {
		f.Flags = append(f.Flags, footprint.Flag{Key: flag.Key, Args: flag.Args})
	}
	f.Show("engine", cfg.Engine)
	f.Show(cfg.executableKey(), p.host.Binary.Path)
	f.Hide(cfg.executableKey(), p.host.Binary.Digest)
	f.Show("model.id", p.host.ModelPath)
	f.Show("Dir", p.Dir)
	f.Show("host", cfg.Host)
	f.Show("port", strconv.Itoa(cfg.Port))
	f.Show("on_manager_exit", cfg.OnManagerExit)
	ids := make([]string, len(p.GPUs))
	for i, g := range p.GPUs {
		ids[i] = g.ID()
	}
	f.Show("devices", strings.Join(ids, ","))
	if cfg.Devices.Auto() {
		f.Show("devices", values.AutoDevice) // what is chosen depends on what is free, and the engine itself has taken some
	}
	ofEngine := "env."
	if cfg.Custom != nil {
		ofEngine = "custom.env."
	}
	for name, value := range p.spec.Env {
		f.Hide(ofEngine+name, value)
	}
	for name, value := range cfg.Env {
		f.Hide("env."+name, footprint.OfValue(value))
	}
	if cfg.APIKey != nil {
		f.Hide("api_key", p.spec.KeyEnv+" "+footprint.OfValue(settings.EnvValue{Secret: cfg.APIKey}))
	}
	if cfg.contained() {
		f.AddContainer(cfg.Provisioning.Container)
	}
	return f
}

// hash is what schema 2 had before footprints, and what earlier versions still compare.
func (p launchPlan) hash(cfg ProvisionConfig) string {
	h := sha256.New()
	gpus := make([]string, len(p.GPUs))
	for i, g := range p.GPUs {
		gpus[i] = g.ID()
	}
	if cfg.Devices.Auto() {
		gpus = nil
	}
	what := []any{p.host.Binary.Digest, p.Args(), p.Dir, p.spec.Env, cfg.Env, cfg.APIKey, p.spec.KeyEnv, gpus}
	if cfg.contained() {
		what = append(what, cfg.Provisioning.Container, cfg.Host)
	}
	_ = json.NewEncoder(h).Encode(what) // maps are encoded in the order of their keys
	return hex.EncodeToString(h.Sum(nil))
}
