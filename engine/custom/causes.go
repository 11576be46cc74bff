package custom

import (
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"
)

// causes are the last words that servers of many kinds have in common: those of the C library, Python, CUDA, and
// the usual parsers of flags.
var causes = sync.OnceValue(func() []engine.CausePattern {
	return []engine.CausePattern{
		{Cause: engine.CausePortInUse, Pattern: engine.AnyOf(`(?i)address already in use`)},
		{Cause: engine.CauseOOMGPU, Pattern: engine.AnyOf(
			`CUDA out of memory`, `(?i)CUDA error: out of memory`, `(cuda|hip)Malloc failed: out of memory`, `OutOfMemoryError`,
		)},
		{Cause: engine.CauseOOMHost, Pattern: engine.AnyOf(`std::bad_alloc`, `\bMemoryError\b`, `(?i)cannot allocate memory`)},
		{Cause: engine.CauseBadFlag, Pattern: engine.AnyOf(
			`unrecognized arguments?`, `(?i)\b(unknown|invalid|unrecognized|undefined|unexpected|no such) (option|argument|flag)s?:? ['"\x60-]`,
			`flag provided but not defined`, // Go; "Invalid argument" at the end of a line is the C library's
		)},
		// Last of all, since a program may go on without what it cannot import.
		{Cause: engine.CauseLibMissing, Pattern: engine.AnyOf(
			`error while loading shared libraries`, `version .GLIBC\S* not found`, `ModuleNotFoundError`, `ImportError`,
			`[Ee]xec format error`,
		)},
	}
})

var gpuCauses = sync.OnceValue(func() []engine.CausePattern {
	return []engine.CausePattern{
		{Cause: engine.CauseDriver, Pattern: engine.AnyOf(`(?i)no CUDA-capable device`, `CUDA driver version is insufficient`, `Found no NVIDIA driver`)},
	}
})
