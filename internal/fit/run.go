package fit

import (
	"slices"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gguf"
)

// RunOf is what the memory of a launch depends on; nil where it cannot be estimated.
func RunOf(run *engine.GGUFRun) *Run {
	if run == nil {
		return nil
	}
	return &Run{
		Settings: gguf.Settings{
			Context: run.Context, Slots: run.Slots, Batch: run.Batch, MicroBatch: run.MicroBatch,
			KeyType: run.KeyType, ValueType: run.ValueType, NoFlash: run.NoFlash, KVOnHost: run.KVOnHost, FullSWA: run.FullSWA,
			Layers: run.Layers, Shares: run.Shares, Split: run.Split, MainGPU: run.MainGPU, Copied: run.Copied, NoRepack: run.NoRepack,
			OnHost: slices.Concat(run.OnHost, expertsOnHost(run.ExpertsOnHost)),
		},
		LeastContext: run.LeastContext, Fits: run.Fits, Beside: run.Beside, Remedies: Remedies(run.Remedies),
	}
}

// expertsOnHost are expressions for the tensors of the experts of the first layers, or of all where n is negative.
func expertsOnHost(n int) []string {
	const most = 1 << 10 // no model has as many
	if n < 0 {
		return []string{gguf.Experts(`\d+`)}
	}
	return gguf.FirstExperts(min(n, most))
}
