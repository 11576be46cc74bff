// Package hfgen writes tiny llama models with random weights as Hugging Face model folders, so that a real vLLM can be
// tested without downloading a model. Their answers are noise, but they load and produce tokens like any other.
//
// Tests alone call it, and the programs that make folders for them. It knows no more of the format than those need.
package hfgen

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

// Params are the dimensions of a model. The zero value is the smallest useful model, 400 kB.
type Params struct {
	Width   int    // of the embedding, a multiple of 32; 0 means 64
	Layers  int    // transformer blocks; 0 means 2
	Context int    // tokens of context; 0 means 2048
	Shards  int    // files that the weights are spread over; 0 means one, without an index
	Seed    uint64 // of the weights: equal Params give equal files
}

func (p Params) withDefaults() (Params, error) {
	size, err := ggufgen.Params{Width: p.Width, Layers: p.Layers, Context: p.Context}.WithDefaults()
	if err == nil && p.Shards < 0 {
		err = fmt.Errorf("cannot write a model: %d shards; the number cannot be negative", p.Shards)
	}
	p.Width, p.Layers, p.Context = size.Width, size.Layers, size.Context
	return p, err
}

// Write writes a model into the folder dir, which it makes where it is missing. Files that are there are replaced.
func Write(dir string, p Params) error {
	p, err := p.withDefaults()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"config.json":            marshal(p.config()),
		"generation_config.json": marshal(map[string]any{"bos_token_id": bos, "eos_token_id": eos}),
		"tokenizer.json":         marshal(tokenizer()),
		"tokenizer_config.json":  marshal(p.tokenizerConfig()),
	}
	p.addWeights(files)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write a model: %w", err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil { // the engine may run as another user
			return fmt.Errorf("cannot write a model: %w", err)
		}
	}
	return nil
}

func (p Params) config() map[string]any {
	return map[string]any{
		"architectures":           []string{"LlamaForCausalLM"},
		"model_type":              "llama",
		"torch_dtype":             "float32",
		"vocab_size":              vocabularySize,
		"hidden_size":             p.Width,
		"intermediate_size":       2 * p.Width,
		"num_hidden_layers":       p.Layers,
		"num_attention_heads":     p.Width / ggufgen.HeadWidth,
		"num_key_value_heads":     p.Width / ggufgen.HeadWidth,
		"head_dim":                ggufgen.HeadWidth,
		"max_position_embeddings": p.Context,
		"hidden_act":              "silu",
		"rms_norm_eps":            1e-5,
		"rope_theta":              10000.0,
		"initializer_range":       0.02,
		"tie_word_embeddings":     true, // the embedding serves for the output too
		"attention_bias":          false,
		"mlp_bias":                false,
		"bos_token_id":            bos,
		"eos_token_id":            eos,
	}
}

// tensor is a matrix of float32, or a vector of ones where cols is 0.
type tensor struct {
	name       string
	rows, cols int // a row is contiguous in memory
}

func (t tensor) values() int { return t.rows * max(t.cols, 1) }

func (t tensor) shape() []int {
	if t.cols == 0 {
		return []int{t.rows}
	}
	return []int{t.rows, t.cols}
}

func (t tensor) data(random *rand.Rand) []byte {
	data := make([]byte, 0, 4*t.values())
	scale := float32(1 / math.Sqrt(float64(max(t.cols, 1))))
	for range t.values() {
		value := float32(1)
		if t.cols > 0 {
			value = (2*random.Float32() - 1) * scale
		}
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(value))
	}
	return data
}

func (p Params) tensors() []tensor {
	width, ffn := p.Width, 2*p.Width
	list := []tensor{{"model.embed_tokens.weight", vocabularySize, width}, {"model.norm.weight", width, 0}}
	for i := range p.Layers {
		for _, t := range []tensor{
			{"input_layernorm", width, 0},
			{"self_attn.q_proj", width, width},
			{"self_attn.k_proj", width, width},
			{"self_attn.v_proj", width, width},
			{"self_attn.o_proj", width, width},
			{"post_attention_layernorm", width, 0},
			{"mlp.gate_proj", ffn, width},
			{"mlp.up_proj", ffn, width},
			{"mlp.down_proj", width, ffn},
		} {
			t.name = fmt.Sprintf("model.layers.%d.%s.weight", i, t.name)
			list = append(list, t)
		}
	}
	return list
}

// addWeights adds the safetensors files, and their index where there are several.
func (p Params) addWeights(files map[string][]byte) {
	tensors := p.tensors()
	random := rand.New(rand.NewPCG(p.Seed, 0))
	if p.Shards == 0 {
		files["model.safetensors"] = safetensors(tensors, random)
		return
	}
	total, index := 0, map[string]string{}
	for shard := range p.Shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", shard+1, p.Shards)
		part := tensors[shard*len(tensors)/p.Shards : (shard+1)*len(tensors)/p.Shards]
		files[name] = safetensors(part, random)
		for _, t := range part {
			index[t.name] = name
			total += 4 * t.values()
		}
	}
	files["model.safetensors.index.json"] = marshal(map[string]any{
		"metadata": map[string]int{"total_size": total}, "weight_map": index,
	})
}

// safetensors encodes tensors in the format of https://github.com/huggingface/safetensors#format: the length of the
// header, the header in JSON, padded so that the data begin at a multiple of 8, and the data.
func safetensors(tensors []tensor, random *rand.Rand) []byte {
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var data []byte
	for _, t := range tensors {
		from := len(data)
		data = append(data, t.data(random)...)
		header[t.name] = map[string]any{"dtype": "F32", "shape": t.shape(), "data_offsets": []int{from, len(data)}}
	}
	text := marshal(header)
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return append(append(file, text...), data...)
}

// marshal fails only for a type that JSON lacks, which is a mistake in this package.
func marshal(v any) []byte {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		panic(err)
	}
	return data
}
