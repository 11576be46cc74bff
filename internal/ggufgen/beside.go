package ggufgen

import "io"

// WriteAdapter writes a LoRA adapter for the model of p.
func WriteAdapter(path string, p Params) error {
	p, err := p.WithDefaults()
	if err != nil {
		return err
	}
	const rank = 8
	metadata := []pair{
		{"general.architecture", "llama"},
		{"general.type", "adapter"},
		{"adapter.type", "lora"},
		{"adapter.lora.alpha", float32(rank)},
	}
	tensors := []tensor{
		{name: "blk.0.attn_q.weight.lora_a", rows: p.Width, cols: rank},
		{name: "blk.0.attn_q.weight.lora_b", rows: rank, cols: p.Width},
	}
	return replace(path, func(w io.Writer) error { return write(w, metadata, tensors, newNoise(p.Seed)) })
}

// WriteProjector writes what lets the model of p see: an encoder of images and a projector in the manner of LLaVA, the
// least that llama.cpp takes.
func WriteProjector(path string, p Params) error {
	p, err := p.WithDefaults()
	if err != nil {
		return err
	}
	const (
		image, patch = 32, 16
		width        = 64
		ffn          = 2 * width
		patches      = (image / patch) * (image / patch)
	)
	metadata := []pair{
		{"general.architecture", "clip"},
		{"general.file_type", uint32(0)},
		{"clip.has_vision_encoder", true},
		{"clip.projector_type", "mlp"},
		{"clip.use_gelu", true},
		{"clip.vision.image_size", uint32(image)},
		{"clip.vision.patch_size", uint32(patch)},
		{"clip.vision.embedding_length", uint32(width)},
		{"clip.vision.feed_forward_length", uint32(ffn)},
		{"clip.vision.projection_dim", uint32(p.Width)},
		{"clip.vision.block_count", uint32(2)},
		{"clip.vision.attention.head_count", uint32(width / HeadWidth)},
		{"clip.vision.attention.layer_norm_epsilon", float32(1e-5)},
		{"clip.vision.image_mean", []float32{0.5, 0.5, 0.5}},
		{"clip.vision.image_std", []float32{0.5, 0.5, 0.5}},
	}
	tensors := []tensor{
		{name: "v.patch_embd.weight", rows: patch, cols: patch, more: []int{3, width}},
		{name: "v.position_embd.weight", rows: width, cols: patches},
		{name: "v.pre_ln.weight", rows: width},
		{name: "v.pre_ln.bias", rows: width},
		{name: "mm.0.weight", rows: width, cols: p.Width},
		{name: "mm.0.bias", rows: p.Width},
		{name: "mm.2.weight", rows: p.Width, cols: p.Width},
		{name: "mm.2.bias", rows: p.Width},
	}
	for _, block := range []string{"v.blk.0.", "v.blk.1."} { // the features are those of the last but one
		for _, t := range []tensor{
			{name: "ln1", rows: width},
			{name: "attn_q", rows: width, cols: width},
			{name: "attn_k", rows: width, cols: width},
			{name: "attn_v", rows: width, cols: width},
			{name: "attn_out", rows: width, cols: width},
			{name: "ln2", rows: width},
			{name: "ffn_up", rows: width, cols: ffn},
			{name: "ffn_down", rows: ffn, cols: width},
		} {
			bias := tensor{name: block + t.name + ".bias", rows: max(t.cols, width)}
			t.name = block + t.name + ".weight"
			tensors = append(tensors, t, bias)
		}
	}
	return replace(path, func(w io.Writer) error { return write(w, metadata, tensors, newNoise(p.Seed)) })
}
