package restarts

import (
	"context"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/usage"
)

// Measure adds to each status what its launch takes and does, as m measures it, and how far a load is.
func Measure(ctx context.Context, m *usage.Meter, all []provisioner.Status) error {
	replicas := make([]usage.Replica, len(all))
	for i, s := range all {
		replicas[i] = usage.Replica{Pool: s.Pool, Replica: s.Replica}
	}
	measured, err := m.Measure(ctx, replicas)
	for i, u := range measured {
		if all[i].State.Final() {
			continue // what is left of it is about to be swept
		}
		if all[i].Usage = u; u != nil && u.Load != nil && all[i].State == provisioner.StateStarting {
			l := u.Load
			all[i].Progress = &report.Progress{Step: report.StepLoad, What: l.Model, Done: l.Done, Total: l.Total, Rate: l.Rate, Remaining: l.Remaining}
		}
	}
	return err
}
