package node

import (
	"context"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/report"
)

// Plan returns what a launch of cfg would run here; see [provisioner.EngineProvisioner.Plan].
func Plan(ctx context.Context, cfg provisioner.ProvisionConfig, opts ...provisioner.Option) (report.Plan, error) {
	p, err := provisioner.New(cfg, opts...)
	if err != nil {
		return report.Plan{}, err
	}
	return p.Plan(ctx)
}

// Inspect finds out all that can be known of the executable of cfg; see [provisioner.EngineProvisioner.Inspect].
func Inspect(ctx context.Context, cfg provisioner.ProvisionConfig, opts ...provisioner.Option) (engine.Binary, error) {
	p, err := provisioner.New(cfg, opts...)
	if err != nil {
		return engine.Binary{}, err
	}
	return p.Inspect(ctx)
}

// Differences tells by which keys the recorded launch of a replica differs from what a launch of cfg would run; see
// [provisioner.EngineProvisioner.Differences].
func Differences(ctx context.Context, cfg provisioner.ProvisionConfig, opts ...provisioner.Option) ([]report.Difference, error) {
	p, err := provisioner.New(cfg, opts...)
	if err != nil {
		return nil, err
	}
	return p.Differences(ctx)
}
