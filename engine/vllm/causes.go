package vllm

import (
	"strings"
	"sync"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"

	"github.com/llama-orch/engine-provisioner/engine"

	"github.com/llama-orch/engine-provisioner/engine/internal/python"
)

// causes are the dying words of vLLM, most specific first. The server's own last words only point to "root cause
// above", which is what its EngineCore or a worker said. testdata/logs holds the words in full.
var causes = sync.OnceValue(func() []engine.CausePattern {
	shared := python.Causes()
	return []engine.CausePattern{
		shared.PortInUse,
		{Cause: engine.CauseBadFlag, Pattern: engine.AnyOf(
			`error: unrecognized arguments`, `error: argument `, `error: ambiguous option`,
			// With VLLM_ALLOW_LONG_MAX_MODEL_LEN the same words are a warning.
			`Value ?[Ee]rror[:,] User-specified max_model_len .* is greater than the derived`, `must be divisible by tensor parallel size`,
			`World size \(\d+\) is larger than the number of available GPUs`,
			`VLLM_PORT '.*' (appears to be a URI|must be a valid integer)`,
		)},
		{Cause: engine.CauseOOMGPU, Pattern: engine.AnyOf(
			python.OOMGPU, `Free memory on device \S+ \(.*\) on startup is less than desired GPU memory utilization`,
			`No available memory for the cache blocks`, `larger than the available KV cache memory`,
		)},
		{Cause: engine.CauseOOMHost, Pattern: engine.AnyOf(`on kv cache allocation is less than requested memory for kv`)},
		shared.OOMHost,
		{Cause: engine.CauseDriver, Pattern: engine.AnyOf(`Failed to infer device type`)},
		shared.NoGPU,
		shared.ModelCorrupt,
		shared.Offline,
		shared.Download,
		shared.ModelMissing,
		shared.LibMissing,
		shared.Unread,
		shared.Driver,
	}
})

// A build for CUDA without a GPU dies. One for the CPU serves, and some versions say so.
var noGPU = lazyregexp.New(strings.Join([]string{`Failed to infer device type`, `Automatically detected platform cpu`}, "|"))

var advice = map[engine.Cause]string{
	engine.CauseOOMGPU:  "free GPU memory, or use a smaller model, a smaller context (--max-model-len), more GPUs (devices) or another share (--gpu-memory-utilization)",
	engine.CauseOOMHost: "free memory, or use a smaller model or a smaller context (--max-model-len); on a CPU the cache takes VLLM_CPU_KVCACHE_SPACE GiB",
}
