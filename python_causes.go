package provisioner

import (
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// The dying words that the engines written in Python share: those of the interpreter, of torch, of Hugging Face's
// libraries and of CUDA. Engines list them in the order of their evidence, which is that of this file: first what is said
// of nothing else, last what is also said in passing. A part that cannot be imported is warned of where the engine can do
// without, and torch warns of a missing driver on every CPU.
var (
	pythonPortInUse = engine.CausePattern{Cause: engine.CausePortInUse, Pattern: anyOf(`\[Errno 98\]`, `[Aa]ddress already in use`)}
	pythonOOMHost   = engine.CausePattern{Cause: engine.CauseOOMHost, Pattern: anyOf(
		`DefaultCPUAllocator: can't allocate memory`, `\b(_Array)?MemoryError\b`, `std::bad_alloc`, `[Cc]annot allocate memory`,
		`(shared memory|/torch_|/psm_|/dev/shm).*No space left on device`, `No space left on device.*(/torch_|/psm_|/dev/shm)`,
	)}
	pythonNoGPU = engine.CausePattern{Cause: engine.CauseDriver, Pattern: anyOf(
		`RuntimeError: (No CUDA GPUs are available|Found no NVIDIA driver|The NVIDIA driver on your system is too old)`,
		`CUDA error: (no CUDA-capable device|no kernel image)`, `CUDA driver version is insufficient`,
	)}
	pythonModelCorrupt = engine.CausePattern{Cause: engine.CauseModelCorrupt, Pattern: anyOf(
		`SafetensorError`, `Error while deserializing header`, `UnpicklingError`, `Model architectures \[.*\] are not supported`,
		`size mismatch for`, `There is no module or parameter named`, `Following weights were not initialized`,
	)}
	// Before the missing model: a hub that cannot be reached ends in the same words as a model that it has not.
	pythonOffline  = engine.CausePattern{Cause: engine.CauseModelMissing, Pattern: anyOf(`outgoing traffic has been disabled`, `OfflineModeIsEnabled`)}
	pythonDownload = engine.CausePattern{Cause: engine.CauseDownload, Pattern: anyOf(
		`Max retries exceeded with url`, `Temporary failure in name resolution`, `Name or service not known`, `Network is unreachable`,
		`\b(Connect|Read)(Timeout|Error)\b`, `IncompleteRead`, `Consistency check failed`, `\b(429 Client|50\d Server) Error\b`,
		`couldn't connect to 'https?://`, `Please check your connection and try again`,
	)}
	pythonModelMissing = engine.CausePattern{Cause: engine.CauseModelMissing, Pattern: anyOf(
		`Invalid repository ID or local directory specified`, `HFValidationError`, `Repo(sitory)? ?[Ii]d must be`,
		`RepositoryNotFoundError`, `RevisionNotFoundError`, `GatedRepoError`, `LocalEntryNotFoundError`,
		`is not a local folder and is not a valid model identifier`, `does not appear to have a file named`,
		`Cannot find any model weights with`, `No such file or directory: .*\.(safetensors|json|bin|gguf)`,
	)}
	pythonLibMissing = engine.CausePattern{Cause: engine.CauseLibMissing, Pattern: anyOf(
		`error while loading shared libraries`, `cannot open shared object file`, `version .GLIBC\S* not found`,
		`ModuleNotFoundError: `, `PackageNotFoundError: `, `ImportError: `,
	)}
	pythonUnread = engine.CausePattern{Cause: engine.CauseModelCorrupt, Pattern: anyOf(`JSONDecodeError`, `Model architectures \[.*\] failed to be inspected`)}
	pythonDriver = engine.CausePattern{Cause: engine.CauseDriver, Pattern: anyOf(`no CUDA-capable device`, `NVML_ERROR`, `NCCL error`, `CUDA error: `)}
)

// pythonOOMGPU is part of patterns in which engines add words of their own.
var pythonOOMGPU = strings.Join([]string{
	`OutOfMemoryError: `, `(CUDA|HIP|XPU) out of memory`, `CUDA error: out of memory`,
}, "|")
