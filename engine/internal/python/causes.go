package python

import (
	"strings"
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Shared are the dying words that the engines written in Python share: those of the interpreter, of torch, of Hugging Face's
// libraries and of CUDA. Engines list them in the order of their evidence, which is that of this file: first what is said
// of nothing else, last what is also said in passing. A part that cannot be imported is warned of where the engine can do
// without, and torch warns of a missing driver on every CPU.
type Shared struct {
	PortInUse, OOMHost, NoGPU, ModelCorrupt, Offline, Download, ModelMissing, LibMissing, Unread, Driver engine.CausePattern
}

// Causes is all of them, compiled at the first call.
func Causes() Shared { return shared() }

var shared = sync.OnceValue(func() Shared {
	return Shared{
		PortInUse: engine.CausePattern{Cause: engine.CausePortInUse, Pattern: engine.AnyOf(`\[Errno 98\]`, `[Aa]ddress already in use`)},
		OOMHost: engine.CausePattern{Cause: engine.CauseOOMHost, Pattern: engine.AnyOf(
			`DefaultCPUAllocator: can't allocate memory`, `\b(_Array)?MemoryError\b`, `std::bad_alloc`, `[Cc]annot allocate memory`,
			`(shared memory|/torch_|/psm_|/dev/shm).*No space left on device`, `No space left on device.*(/torch_|/psm_|/dev/shm)`,
		)},
		NoGPU: engine.CausePattern{Cause: engine.CauseDriver, Pattern: engine.AnyOf(
			`RuntimeError: (No CUDA GPUs are available|Found no NVIDIA driver|The NVIDIA driver on your system is too old)`,
			`CUDA error: (no CUDA-capable device|no kernel image)`, `CUDA driver version is insufficient`,
		)},
		ModelCorrupt: engine.CausePattern{Cause: engine.CauseModelCorrupt, Pattern: engine.AnyOf(
			`SafetensorError`, `Error while deserializing header`, `UnpicklingError`, `Model architectures \[.*\] are not supported`,
			`size mismatch for`, `There is no module or parameter named`, `Following weights were not initialized`,
		)},
		// Before the missing model: a hub that cannot be reached ends in the same words as a model that it has not.
		Offline: engine.CausePattern{Cause: engine.CauseModelMissing, Pattern: engine.AnyOf(`outgoing traffic has been disabled`, `OfflineModeIsEnabled`)},
		Download: engine.CausePattern{Cause: engine.CauseDownload, Pattern: engine.AnyOf(
			`Max retries exceeded with url`, `Temporary failure in name resolution`, `Name or service not known`, `Network is unreachable`,
			`\b(Connect|Read)(Timeout|Error)\b`, `IncompleteRead`, `Consistency check failed`, `\b(429 Client|50\d Server) Error\b`,
			`couldn't connect to 'https?://`, `Please check your connection and try again`,
		)},
		ModelMissing: engine.CausePattern{Cause: engine.CauseModelMissing, Pattern: engine.AnyOf(
			`Invalid repository ID or local directory specified`, `HFValidationError`, `Repo(sitory)? ?[Ii]d must be`,
			`RepositoryNotFoundError`, `RevisionNotFoundError`, `GatedRepoError`, `LocalEntryNotFoundError`,
			`is not a local folder and is not a valid model identifier`, `does not appear to have a file named`,
			`Cannot find any model weights with`, `No such file or directory: .*\.(safetensors|json|bin|gguf)`,
		)},
		LibMissing: engine.CausePattern{Cause: engine.CauseLibMissing, Pattern: engine.AnyOf(
			`error while loading shared libraries`, `cannot open shared object file`, `version .GLIBC\S* not found`,
			`ModuleNotFoundError: `, `PackageNotFoundError: `, `ImportError: `,
		)},
		Unread: engine.CausePattern{Cause: engine.CauseModelCorrupt, Pattern: engine.AnyOf(`JSONDecodeError`, `Model architectures \[.*\] failed to be inspected`)},
		Driver: engine.CausePattern{Cause: engine.CauseDriver, Pattern: engine.AnyOf(`no CUDA-capable device`, `NVML_ERROR`, `NCCL error`, `CUDA error: `)},
	}
})

// OOMGPU is part of patterns in which engines add words of their own.
var OOMGPU = strings.Join([]string{
	`OutOfMemoryError: `, `(CUDA|HIP|XPU) out of memory`, `CUDA error: out of memory`,
}, "|")
