package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/advertise"
	"github.com/llama-orch/engine-provisioner/internal/footprint"
	"github.com/llama-orch/engine-provisioner/internal/state"
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

	cfg  ProvisionConfig
	plan *launchPlan // what cfg would launch; nil when that cannot be told, and what was launched stands
}

// Compare tells by what the running launch differs from what Start would run for a configuration of the same replica, as
// [Differences] does, and whether its engine uses a GPU where cfg asks for that and the launch was made without, or was found
// by [Recover]; one that still loads, on GPUs, is not asked. The error is ErrNotRunning, or says why it cannot be told what Start would run, such
// as a model that is away; the Comparison is good for Update in that case, too.
func (p *EngineProvisioner) Compare(ctx context.Context, cfg ProvisionConfig) (Comparison, error) {
	cfg = cfg.WithDefaults()
	c := Comparison{cfg: cfg}
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

// Update gives the running engine the configuration of a comparison that has no differences: what the provisioner alone acts
// on, such as a grace period, is as it says from now on. It returns the launch to go on with, to which the engine belongs;
// this one is as after Release. When it fails, this launch goes on as it was, or is about to end.
func (p *EngineProvisioner) Update(c Comparison) (*EngineProvisioner, error) {
	switch {
	case len(c.Differs) > 0:
		return nil, fmt.Errorf("cannot give the running engine other settings (%s): that takes another launch", namesOf(c.Differs))
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
		p.note("it runs with other settings than those of the configuration (" + namesOf(c.Differs) + "); replace it when it suits")
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

// Rehearse does what Start can do while another engine of the replica runs: it gets what is missing, and finds out what can
// be found out without a free port, and returns what Start would run. The errors are those of Start.
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

// under is the record of the same launch under other settings.
func (r record) under(cfg ProvisionConfig, plan *launchPlan) record {
	was := r.Launch
	if plan != nil {
		r.Launch = plan.launchRecord(cfg)
		// These are of the launch as it was: with its temporary folder, and before it took any memory.
		r.Launch.Args, r.Launch.GPUs, r.Launch.Memory, r.Launch.Files = was.Args, was.GPUs, was.Memory, was.Files
		r.Launch.Flags = argsIn(r.TempDir, plan.ownFlags())
		r.Launch.Seals = was.Seals
	}
	r.Launch.Ready, r.Launch.GPU = cfg.Ready, cfg.GPU
	r.Model, r.Drain, r.Logs, r.APIKey, r.Handoff = cfg.Model.ID, cfg.Drain, cfg.Logs, cfg.APIKey, cfg.Handoff
	r.Grace, r.LoadGrace, r.Settle = cfg.Stop.Grace, 0, cfg.Stop.Settle
	if host, err := advertise.Host(cfg.Advertise); err == nil { // else the one of before stands
		r.Advertise = host
	}
	if cfg.Stop.Grace == 0 {
		r.Grace, r.LoadGrace = settings.Duration(r.Launch.Spec.Grace), settings.Duration(r.Launch.Spec.LoadGrace)
	}
	return r
}

// resettle writes the record of a launch under other settings, unless somebody has begun to end it.
func resettle(f state.Files, rec record) error {
	ending := false
	err := changeRecord(f, func(current record, err error) (record, bool) {
		ending = err == nil && (current.LaunchID != rec.LaunchID || current.State.Final() || current.Desired == desiredStopped)
		return rec, !ending
	})
	if ending {
		return errEnding
	}
	return err
}
