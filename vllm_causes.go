package provisioner

// vllmCauses are the dying words of vLLM, most specific first. The server's own last words only point to "root cause
// above", which is what its EngineCore or a worker said. testdata/vllm/logs holds the words in full.
var vllmCauses = []CausePattern{
	{CauseLibMissing, anyOf(
		`error while loading shared libraries`, `cannot open shared object file`, `version .GLIBC\S* not found`,
		`ModuleNotFoundError: `, `PackageNotFoundError: `, `ImportError: `,
	)},
	{CausePortInUse, anyOf(`\[Errno 98\]`, `[Aa]ddress already in use`)},
	{CauseBadFlag, anyOf(
		`^vllm( serve)?: error: `, `error: unrecognized arguments`, `error: argument `, `error: ambiguous option`,
		`is greater than the derived max_model_len`, `larger than the maximum number of tokens`,
		`must be divisible by tensor parallel size`, `World size \(\d+\) is larger than the number of available GPUs`,
		`VLLM_PORT '.*' (appears to be a URI|must be a valid integer)`,
	)},
	{CauseModelMissing, anyOf(
		`Invalid repository ID or local directory specified`, `HFValidationError`, `Repo(sitory)? ?[Ii]d must be`,
		`RepositoryNotFoundError`, `RevisionNotFoundError`, `GatedRepoError`, `LocalEntryNotFoundError`,
		`is not a local folder and is not a valid model identifier`, `does not appear to have a file named`,
		`Cannot find any model weights with`, `No such file or directory: .*\.(safetensors|json|bin|gguf)`,
	)},
	{CauseModelCorrupt, anyOf(
		`SafetensorError`, `safetensors_rust`, `Error while deserializing header`, `UnpicklingError`,
		`JSONDecodeError`, `Model architectures \[.*\] (are not supported|failed to be inspected)`,
		`size mismatch for`, `There is no module or parameter named`, `Following weights were not initialized`,
	)},
	{CauseOOMGPU, anyOf(
		`(torch\.)?(cuda\.)?OutOfMemoryError: (CUDA|HIP)`, `CUDA out of memory`, `HIP out of memory`, `CUDA error: out of memory`,
		`Free memory on device \S+ \(.*\) on startup is less than desired GPU memory utilization`,
		`No available memory for the cache blocks`, `larger than the available KV cache memory`,
	)},
	{CauseOOMHost, anyOf(
		`on kv cache allocation is less than requested memory for kv`, `DefaultCPUAllocator: can't allocate memory`,
		`MemoryError`, `std::bad_alloc`, `[Cc]annot allocate memory`, `No space left on device`,
	)},
	{CauseDriver, anyOf(
		`Failed to infer device type`, `no CUDA-capable device`, `No CUDA GPUs are available`, `Found no NVIDIA driver`,
		`CUDA driver version is insufficient`, `CUDA error: no kernel image`, `NVML_ERROR`, `NCCL error`, `CUDA error: `,
	)},
}

// A build for CUDA without a GPU dies. One for the CPU serves, and says nothing of it.
var vllmNoGPU = anyOf(`Failed to infer device type`, `Automatically detected platform cpu`)
