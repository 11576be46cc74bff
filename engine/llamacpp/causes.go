package llamacpp

import (
	"sync"

	"github.com/llama-orch/engine-provisioner/engine"
)

// causes are the dying words of llama-server, most specific first: what names the reason goes before what only
// says that something failed. testdata/logs holds the words in full.
var causes = sync.OnceValue(func() []engine.CausePattern {
	return []engine.CausePattern{
		// It does not say why: see portError.
		// Before all: without its workers it names a device that is not there, or takes what they had to main memory.
		{Cause: engine.CausePeerLost, Pattern: engine.AnyOf(`^\S* ?(E )?Failed to connect to \S+:\d+$`, `Remote RPC server crashed or returned malformed response`)},
		{Cause: engine.CausePortInUse, Pattern: engine.AnyOf(`couldn't bind (HTTP )?server socket`, `[Aa]ddress already in use`)},
		{Cause: engine.CauseDriver, Pattern: engine.AnyOf(`invalid device: (CUDA|ROCm|HIP|Vulkan|SYCL|MUSA)\d+`)},
		{Cause: engine.CauseBadFlag, Pattern: engine.AnyOf(
			`^error: (invalid|unknown) argument`, `error while handling (argument|environment variable) "`,
			`[Uu]nsupported cache type`, `quanti[sz](ed|ation)\b.* requires flash_attn`, `failed to parse grammar`,
			`static assets path not found`,
		)},
		{Cause: engine.CauseBadFlag, Advice: `correct "--chat-template" or "--chat-template-file", or leave both out for the model's own`, Pattern: engine.AnyOf(
			`the supplied chat template is not supported`,
		)},
		{Cause: engine.CauseBadFlag, Advice: `give one in "flags" that this build can read: "--chat-template chatml", or "--chat-template-file" with a corrected one`, Pattern: engine.AnyOf(
			`chat template parsing error`, // of the model's own
		)},
		{Cause: engine.CauseOOMGPU, Pattern: engine.AnyOf(
			`(cuda|hip|musa)Malloc failed: out of memory`, `CUDA error: out of memory`,
			`(failed|unable) to allocate (CUDA|ROCm|Vulkan|SYCL|MUSA)\w* buffer`, `ErrorOutOfDeviceMemory`,
		)},
		{Cause: engine.CauseModelMissing, Pattern: engine.AnyOf(
			`failed to open GGUF file '.*' \((No such file|Permission denied)`,
			`failed to open .*: (No such file|Permission denied)`,
			`exactly one out metadata, path_model, and file must be defined`,
		)},
		{Cause: engine.CauseOOMHost, Pattern: engine.AnyOf(`(failed|unable) to allocate CPU\w* buffer`, `std::bad_alloc`)},
		// What flags name beside the model. These lines name the file; why it is of no use stands in those before.
		{Cause: engine.CauseBadFlag, Advice: `give "--lora" an adapter that was made for this model`, Pattern: engine.AnyOf(
			`failed to apply lora adapter: (model arch|expect|.*tensor)`,
		)},
		{Cause: engine.CauseModelCorrupt, Advice: `the adapter is no GGUF file or damaged: fetch it again, or correct "--lora"`, Pattern: engine.AnyOf(
			`failed to load lora adapter '`,
		)},
		{Cause: engine.CauseModelCorrupt, Advice: `the draft model cannot be read: fetch it again, or correct the flag that names it`, Pattern: engine.AnyOf(
			`failed to load draft model`,
		)},
		{Cause: engine.CauseModelCorrupt, Advice: `the projector is damaged, or newer than this build: fetch it again, or use a newer llama-server`, Pattern: engine.AnyOf(
			`clip_init: failed to load model '`,
		)},
		{Cause: engine.CauseBadFlag, Advice: `give "--mmproj" the projector that belongs to this model, such as an mmproj-*.gguf of its repository`, Pattern: engine.AnyOf(
			`failed to load multimodal model`, `Failed to load CLIP model from`,
		)},
		{Cause: engine.CauseBadFlag, Advice: `the model has no layers that draft: leave "--spec-type draft-mtp" out, or use a model that has them`, Pattern: engine.AnyOf(
			`failed to create MTP context`,
		)},
		{Cause: engine.CauseBadFlag, Advice: `"--split-mode tensor" needs a GPU: leave it out`, Pattern: engine.AnyOf(
			`LLAMA_SPLIT_MODE_TENSOR needs`,
		)},
		{Cause: engine.CauseModelCorrupt, Pattern: engine.AnyOf(
			`invalid magic char`, `failed to read (magic|key-value pairs|header|tensor)`, `exceeds remaining file size`, `model is corrupted or incomplete`, `unknown model architecture`,
			`missing tensor`, `wrong number of tensors`, `check_tensor_dims: tensor`, `key not found in model`,
			`error loading model (vocabulary|hyperparameters)`, `(bad|unsupported|invalid) GGUF`,
		)},
		{Cause: engine.CauseOOMHost, Pattern: engine.AnyOf(`[Cc]annot allocate memory`, `insufficient memory`)},
		// A backend that cannot be loaded is left out.
		{Cause: engine.CauseLibMissing, Pattern: engine.AnyOf(
			`error while loading shared libraries`, `symbol lookup error`, `version .GLIBC\S* not found`,
			`no backends are loaded`, `[Ee]xec format error`,
		)},
		// Last of all: after these llama-server goes on without a GPU, and may die of something else.
		{Cause: engine.CauseDriver, Pattern: engine.AnyOf(
			`failed to initialize (CUDA|ROCm|HIP)`, `no CUDA-capable device`, `CUDA driver version is insufficient`, `CUDA error`,
		)},
	}
})
