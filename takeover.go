package provisioner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// adopt makes an engine that runs already the present launch.
func (r *replica) adopt(ctx context.Context, p *EngineProvisioner) {
	outdated, plan, err := r.tell.differences(ctx, r.cfg, p.run.rec)
	if err != nil {
		outdated = []Difference{{Why: "it cannot be told by what"}}
	}
	r.lacking = p.lacksGPU(ctx, r.cfg)
	if r.lacking != nil && !slices.ContainsFunc(outdated, func(d Difference) bool { return d.Key == "gpu" }) {
		outdated = append(outdated, gpuDifference(r.cfg, p.run.rec.Launch, "the use of the GPU was not proven"))
	}
	r.outdated = outdated
	p.mu.Lock()
	p.cfg, p.attempt, p.kept = r.cfg, r.past.Attempts+1, true
	p.mu.Unlock()
	switch {
	case err != nil:
		p.note("whether it runs with the present settings cannot be told: " + err.Error())
	case len(outdated) > 0:
		p.note("it runs with other settings than those of the configuration (" + namesOf(outdated) + "); replace it when it suits")
	default:
		p = p.settleInto(r.cfg, plan)
	}
	r.wasHeld = false
	r.unhold() // somebody has started it
	r.takeUp(p)
}

// settleInto gives an adopted engine the present settings, which make no other launch: those that the provisioner alone acts
// on may have changed since its start, and an earlier version knew less of what to ask it. It returns the launch to go on
// with, which is p itself where there is nothing to change.
func (p *EngineProvisioner) settleInto(cfg ProvisionConfig, plan launchPlan) *EngineProvisioner {
	was := p.run.rec
	if now := was.under(cfg, &plan); sameText(now, was) {
		return p
	}
	next, err := p.passOn(cfg, &plan)
	switch {
	case errors.Is(err, errEnding):
		return p
	case err != nil:
		p.note("it goes on under the settings of its start: " + err.Error())
		return p
	}
	return next
}

// finish makes a launch the present one whose stop an earlier program did not finish.
func (r *replica) finish(p *EngineProvisioner) {
	r.ending = p
	r.takeUp(p)
}

func (r *replica) takeUp(p *EngineProvisioner) {
	r.launch = p
	r.past.Phase, r.past.RetryAt = PhaseRunning, time.Time{}
	r.keep(r.past)
}

// gpuDoubt reports whether a launch owes the proof that the present settings ask for: it was made without that.
func gpuDoubt(cfg ProvisionConfig, was launchRecord) bool {
	return cfg.GPU == GPURequired && was.GPU != GPURequired
}

func gpuDifference(cfg ProvisionConfig, was launchRecord, why string) Difference {
	return Difference{Key: "gpu", Why: why, Was: string(was.GPU), Now: string(cfg.GPU)}
}

// gpuLack is by what a launch that was made without a GPU differs from settings that require one.
func gpuLack(cfg ProvisionConfig, was launchRecord) (lack []Difference) {
	if gpuDoubt(cfg, was) && len(was.GPUs) == 0 {
		lack = append(lack, gpuDifference(cfg, was, "it runs without a GPU"))
	}
	return lack
}

// lacksGPU says why an adopted engine does not meet "gpu: required". It serves all the same, as it did before: it is outdated,
// and not ready in the sense of its settings. One that still loads, on GPUs, is not asked.
func (p *EngineProvisioner) lacksGPU(ctx context.Context, cfg ProvisionConfig) error {
	was := p.run.rec.Launch
	if !gpuDoubt(cfg, was) {
		return nil
	}
	err := errors.New("it was started without one")
	if len(was.GPUs) > 0 {
		if _, ready := p.readyNow(); !ready {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, recoveryBudget)
		defer cancel()
		if err = p.checkGPU(ctx, p.run); err == nil {
			return nil
		}
		if gpu, ok := errors.AsType[*GPUError](err); ok {
			err = gpu.Err
		}
	}
	return &GPUError{
		Err:    fmt.Errorf("the adopted engine does not meet \"gpu: required\": %w", err),
		Advice: "it serves on; reload replaces it where there is a GPU",
	}
}
