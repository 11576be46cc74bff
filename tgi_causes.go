package provisioner

import "github.com/llama-orch/engine-provisioner/engine"

// tgiCauses are the dying words of TGI, most specific first: its shards are Python, its launcher and router are Rust.
// testdata/tgi/logs holds the words in full.
var tgiCauses = []engine.CausePattern{
	{Cause: engine.CausePortInUse, Pattern: anyOf(`[Aa]ddress already in use`, `AddrInUse`, `EADDRINUSE`)},
	{Cause: engine.CauseBadFlag, Pattern: anyOf(
		`^error: (unexpected argument|invalid value|the argument|a value is required|the following required)`,
		`ArgumentValidation\("`, `NotEnoughCUDADevices\("`, `\bmax_(input|total)_(tokens|length)\b.* must be`,
	)},
	{Cause: engine.CauseOOMGPU, Pattern: anyOf(pythonOOMGPU, `Not enough memory to handle`)},
	pythonOOMHost,
	pythonNoGPU,
	pythonModelCorrupt,
	pythonOffline,
	pythonDownload,
	pythonModelMissing,
	pythonLibMissing,
	pythonUnread,
	{Cause: engine.CauseModelMissing, Pattern: anyOf(`\bDownloadError\b`)}, // the launcher's last word, whatever the reason
	pythonDriver,
}

var tgiAdvice = map[engine.Cause]string{
	engine.CauseOOMGPU: "free GPU memory, or use a smaller model, a smaller context (--max-total-tokens), more GPUs (devices) or another share (--cuda-memory-fraction)",
}
