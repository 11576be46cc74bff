package provisioner

import (
	"context"

	"github.com/llama-orch/engine-provisioner/engine"
)

// slotsOf is how many requests the engine computes at once; 0 where nobody tells. It is worth no failure.
func slotsOf(ctx context.Context, s engine.LaunchSpec, ask *prober) int {
	if s.SlotsAt != (engine.Field{}) {
		if n, err := ask.count(ctx, s.SlotsAt); err == nil && n > 0 {
			return n
		}
	}
	return s.Slots
}
