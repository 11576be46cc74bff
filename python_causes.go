package provisioner

import "strings"

// The dying words that the engines written in Python share: those of the interpreter, of torch, of Hugging Face's
// libraries and of CUDA.
var (
	pythonLibMissing = CausePattern{CauseLibMissing, anyOf(
		`error while loading shared libraries`, `cannot open shared object file`, `version .GLIBC\S* not found`,
		`ModuleNotFoundError: `, `PackageNotFoundError: `, `ImportError: `,
	)}
	pythonPortInUse    = CausePattern{CausePortInUse, anyOf(`\[Errno 98\]`, `[Aa]ddress already in use`)}
	pythonModelMissing = CausePattern{CauseModelMissing, anyOf(
		`Invalid repository ID or local directory specified`, `HFValidationError`, `Repo(sitory)? ?[Ii]d must be`,
		`RepositoryNotFoundError`, `RevisionNotFoundError`, `GatedRepoError`, `LocalEntryNotFoundError`,
		`is not a local folder and is not a valid model identifier`, `does not appear to have a file named`,
		`Cannot find any model weights with`, `No such file or directory: .*\.(safetensors|json|bin|gguf)`,
	)}
	pythonModelCorrupt = CausePattern{CauseModelCorrupt, anyOf(
		`SafetensorError`, `Error while deserializing header`, `UnpicklingError`, `JSONDecodeError`,
		`Model architectures \[.*\] (are not supported|failed to be inspected)`,
		`size mismatch for`, `There is no module or parameter named`, `Following weights were not initialized`,
	)}
	pythonOOMHost = CausePattern{CauseOOMHost, anyOf(
		`DefaultCPUAllocator: can't allocate memory`, `MemoryError`, `std::bad_alloc`, `[Cc]annot allocate memory`,
		`No space left on device`,
	)}
	pythonDriver = CausePattern{CauseDriver, anyOf(
		`no CUDA-capable device`, `No CUDA GPUs are available`, `Found no NVIDIA driver`, `CUDA driver version is insufficient`,
		`CUDA error: no kernel image`, `NVML_ERROR`, `NCCL error`, `CUDA error: `,
	)}
)

// pythonOOMGPU is part of patterns in which engines add words of their own.
var pythonOOMGPU = strings.Join([]string{
	`OutOfMemoryError: (CUDA|HIP)`, `(CUDA|HIP) out of memory`, `CUDA error: out of memory`,
}, "|")
