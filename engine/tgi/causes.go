package tgi

import (
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"

	"github.com/llama-orch/engine-provisioner/engine/internal/python"
)

// causes are the dying words of TGI, most specific first: its shards are Python, its launcher and router are Rust.
// testdata/logs holds the words in full.
var causes = sync.OnceValue(func() []engine.CausePattern {
	shared := python.Causes()
	return []engine.CausePattern{
		{Cause: engine.CausePortInUse, Pattern: engine.AnyOf(`[Aa]ddress already in use`, `AddrInUse`, `EADDRINUSE`)},
		{Cause: engine.CauseBadFlag, Pattern: engine.AnyOf(
			`^error: (unexpected argument|invalid value|the argument|a value is required|the following required)`,
			`ArgumentValidation\("`, `NotEnoughCUDADevices\("`, `\bmax_(input|total)_(tokens|length)\b.* must be`,
		)},
		{Cause: engine.CauseOOMGPU, Pattern: engine.AnyOf(python.OOMGPU, `Not enough memory to handle`)},
		shared.OOMHost,
		shared.NoGPU,
		shared.ModelCorrupt,
		shared.Offline,
		shared.Download,
		shared.ModelMissing,
		shared.LibMissing,
		shared.Unread,
		{Cause: engine.CauseModelMissing, Pattern: engine.AnyOf(`\bDownloadError\b`)}, // the launcher's last word, whatever the reason
		shared.Driver,
	}
})

var advice = map[engine.Cause]string{
	engine.CauseOOMGPU: "free GPU memory, or use a smaller model, a smaller context (--max-total-tokens), more GPUs (devices) or another share (--cuda-memory-fraction)",
}
