package provisioner

import (
	"cmp"
	"errors"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/footprint"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

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
	r.Grace, r.LoadGrace = cfg.Stop.Grace, 0
	if cfg.Stop.Grace == 0 {
		r.Grace, r.LoadGrace = Duration(r.Launch.Spec.Grace), Duration(r.Launch.Spec.LoadGrace)
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
