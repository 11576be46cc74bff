package provisioner

import "github.com/llama-orch/engine-provisioner/engine"

// vllmCauses are the dying words of vLLM, most specific first. The server's own last words only point to "root cause
// above", which is what its EngineCore or a worker said. testdata/vllm/logs holds the words in full.
var vllmCauses = []engine.CausePattern{
	pythonPortInUse,
	{Cause: engine.CauseBadFlag, Pattern: anyOf(
		`error: unrecognized arguments`, `error: argument `, `error: ambiguous option`,
		// With VLLM_ALLOW_LONG_MAX_MODEL_LEN the same words are a warning.
		`Value ?[Ee]rror[:,] User-specified max_model_len .* is greater than the derived`, `must be divisible by tensor parallel size`,
		`World size \(\d+\) is larger than the number of available GPUs`,
		`VLLM_PORT '.*' (appears to be a URI|must be a valid integer)`,
	)},
	{Cause: engine.CauseOOMGPU, Pattern: anyOf(
		pythonOOMGPU, `Free memory on device \S+ \(.*\) on startup is less than desired GPU memory utilization`,
		`No available memory for the cache blocks`, `larger than the available KV cache memory`,
	)},
	{Cause: engine.CauseOOMHost, Pattern: anyOf(`on kv cache allocation is less than requested memory for kv`)},
	pythonOOMHost,
	{Cause: engine.CauseDriver, Pattern: anyOf(`Failed to infer device type`)},
	pythonNoGPU,
	pythonModelCorrupt,
	pythonOffline,
	pythonDownload,
	pythonModelMissing,
	pythonLibMissing,
	pythonUnread,
	pythonDriver,
}

// A build for CUDA without a GPU dies. One for the CPU serves, and some versions say so.
var vllmNoGPU = anyOf(`Failed to infer device type`, `Automatically detected platform cpu`)

var vllmAdvice = map[engine.Cause]string{
	engine.CauseOOMGPU:  "free GPU memory, or use a smaller model, a smaller context (--max-model-len), more GPUs (devices) or another share (--gpu-memory-utilization)",
	engine.CauseOOMHost: "free memory, or use a smaller model or a smaller context (--max-model-len); on a CPU the cache takes VLLM_CPU_KVCACHE_SPACE GiB",
}
