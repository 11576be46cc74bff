package provisioner

// NormalizeFlags writes an engine's flags the one way that the rest of the package expects. It is pure and idempotent,
// and it keeps every element that it has no reason to touch; for an engine that is no [EngineWithFlags] it returns a copy. Of
// opts, those matter that add an engine.
//
// For "llamacpp":
//   - "--flag=value" of a known flag becomes two elements, as llama-server knows no "=" form;
//   - -ngl, --gpu-layers and --ngl become --n-gpu-layers; -np, -cb and -nocb become --parallel, --cont-batching and
//     --no-cont-batching;
//   - underscores in a known long flag become hyphens.
//
// For "vllm", "sglang" and "tgi", which know the "=" form, it stays, and underscores become hyphens. For the first two the
// beginning of a name becomes the name ("--gpu-mem" of vllm), and for "sglang" --tensor-parallel-size,
// --pipeline-parallel-size and --data-parallel-size become --tp-size, --pp-size and --dp-size.
//
// Values are never touched, whatever they look like: which flags take one is read from the engine's own help.
func NormalizeFlags(name string, flags []string, opts ...Option) []string {
	o := newOptions(opts)
	d := o.dialect(name)
	if d == nil {
		return append([]string{}, flags...)
	}
	return d.Normalize(flags)
}
