package sglang

import (
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"

	"github.com/llama-orch/engine-provisioner/engine/internal/python"
)

// causes are the dying words of SGLang, most specific first. A failed start ends by SIGKILL of its own, so that
// the log alone tells why; testdata/logs holds the words in full.
var causes = sync.OnceValue(func() []engine.CausePattern {
	shared := python.Causes()
	return []engine.CausePattern{
		shared.PortInUse,
		{Cause: engine.CauseBadFlag, Pattern: engine.AnyOf(
			`error: unrecognized arguments`, `error: argument `, `error: ambiguous option`, `error: the following arguments are required`,
			// With SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN the same words are a warning.
			`ValueError: .*context_length .* (is greater|longer) than`,
			`must be divisible by tp_size`, `Error: .*tp_size.*(is larger|must be)`,
		)},
		{Cause: engine.CauseOOMGPU, Pattern: engine.AnyOf(
			python.OOMGPU, `Not enough memory\. Please try to (increase|reduce)`, `Capture cuda graph failed: .*out of memory`,
			`The memory capacity is unbalanced`,
		)},
		shared.OOMHost,
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

var advice = map[engine.Cause]string{
	engine.CauseOOMGPU: "free GPU memory, or use a smaller model, a smaller context (--context-length), more GPUs (devices) or another share (--mem-fraction-static)",
}
