package provisioner

import (
	"context"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/report"
)

// planOf is what a launch of a configuration would run.
func planOf(ctx context.Context, cfg ProvisionConfig, opts ...Option) (report.Plan, error) {
	p, err := New(cfg, opts...)
	if err != nil {
		return report.Plan{}, err
	}
	return p.Plan(ctx)
}

// inspect is all that can be known of the executable of a configuration.
func inspect(ctx context.Context, cfg ProvisionConfig, opts ...Option) (engine.Binary, error) {
	p, err := New(cfg, opts...)
	if err != nil {
		return engine.Binary{}, err
	}
	return p.Inspect(ctx)
}

// differencesOf are those between the recorded launch of a replica and one of a configuration.
func differencesOf(ctx context.Context, cfg ProvisionConfig, opts ...Option) ([]report.Difference, error) {
	p, err := New(cfg, opts...)
	if err != nil {
		return nil, err
	}
	return p.Differences(ctx)
}
