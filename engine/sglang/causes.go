package sglang

import (
	"github.com/llama-orch/engine-provisioner/engine"

	"github.com/llama-orch/engine-provisioner/engine/internal/python"
)

// causes are the dying words of SGLang, most specific first. A failed start ends by SIGKILL of its own, so that
// the log alone tells why; testdata/logs holds the words in full.
var causes = []engine.CausePattern{
	python.PortInUse,
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
	python.OOMHost,
	python.NoGPU,
	python.ModelCorrupt,
	python.Offline,
	python.Download,
	python.ModelMissing,
	python.LibMissing,
	python.Unread,
	python.Driver,
}

var advice = map[engine.Cause]string{
	engine.CauseOOMGPU: "free GPU memory, or use a smaller model, a smaller context (--context-length), more GPUs (devices) or another share (--mem-fraction-static)",
}
