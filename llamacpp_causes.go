package provisioner

import (
	"regexp"
	"strings"
)

// llamaCauses are the dying words of llama-server, most specific first: what names the reason goes before what only
// says that something failed. testdata/llamacpp/logs holds the words in full.
var llamaCauses = []CausePattern{
	{CausePortInUse, anyOf(`couldn't bind (HTTP )?server socket`, `[Aa]ddress already in use`)},
	{CauseDriver, anyOf(`invalid device: (CUDA|ROCm|HIP|Vulkan|SYCL|MUSA)\d+`)},
	{CauseBadFlag, anyOf(
		`^error: (invalid|unknown) argument`, `error while handling (argument|environment variable) "`,
		`[Uu]nsupported cache type`, `quantization requires flash_attn`,
	)},
	{CauseOOMGPU, anyOf(
		`(cuda|hip|musa)Malloc failed: out of memory`, `CUDA error: out of memory`,
		`(failed|unable) to allocate (CUDA|ROCm|Vulkan|SYCL|MUSA)\w* buffer`, `ErrorOutOfDeviceMemory`,
	)},
	{CauseModelMissing, anyOf(
		`failed to open GGUF file '.*' \((No such file|Permission denied)`,
		`failed to open .*: (No such file|Permission denied)`,
		`exactly one out metadata, path_model, and file must be defined`,
	)},
	{CauseModelCorrupt, anyOf(
		`invalid magic char`, `failed to read (magic|key-value pairs|header|tensor)`, `exceeds remaining file size`, `model is corrupted or incomplete`, `unknown model architecture`,
		`missing tensor`, `wrong number of tensors`, `key not found in model`,
		`error loading model (vocabulary|hyperparameters)`, `(bad|unsupported|invalid) GGUF`,
	)},
	{CauseOOMHost, anyOf(
		`(failed|unable) to allocate CPU\w* buffer`, `std::bad_alloc`, `[Cc]annot allocate memory`, `insufficient memory`,
	)},
	// A backend that cannot be loaded is left out.
	{CauseLibMissing, anyOf(
		`error while loading shared libraries`, `symbol lookup error`, `version .GLIBC\S* not found`,
		`no backends are loaded`, `[Ee]xec format error`,
	)},
	// Last of all: after these llama-server goes on without a GPU, and may die of something else.
	{CauseDriver, anyOf(
		`failed to initialize (CUDA|ROCm|HIP)`, `no CUDA-capable device`, `CUDA driver version is insufficient`, `CUDA error`,
	)},
}

var llamaAdvice = map[Cause]string{
	CauseOOMGPU:  "free GPU memory, or use a smaller model, a smaller context (--ctx-size) or fewer layers (--n-gpu-layers)",
	CauseOOMHost: "free memory, or use a smaller model or a smaller context (--ctx-size)",
}

var (
	llamaOffload = regexp.MustCompile(`offloaded (?P<used>\d+)/(?P<total>\d+) layers to GPU`)
	llamaNoGPU   = anyOf(`no usable GPU found`, `failed to initialize (CUDA|ROCm|HIP)`, `no CUDA-capable device`)
)

func anyOf(patterns ...string) *regexp.Regexp { return regexp.MustCompile(strings.Join(patterns, "|")) }
