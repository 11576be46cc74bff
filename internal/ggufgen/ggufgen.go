// Package ggufgen writes tiny llama models with random weights in the GGUF format, so that a real llama-server can be
// tested without downloading a model. Their answers are noise, but they load and produce tokens like any other.
//
// Tests alone call it, and the programs that make files for them. It knows no more of the format than those need.
package ggufgen

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Params are the dimensions of a model. The zero value is the smallest useful model, 400 kB, which loads in 50 ms.
// Larger ones take longer to load: with "--load-mode none", which reads the file instead of mapping it, width 1024 and
// 8 layers (337 MB) took 0.3 s, width 2048 and 16 layers (2.7 GB) took 6 s.
type Params struct {
	Width   int    // of the embedding, a multiple of 32; 0 means 64
	Layers  int    // transformer blocks; 0 means 2
	Context int    // tokens of context; 0 means 2048
	Experts int    // in each layer, of which a token uses one; 0 means that it is no mixture
	Seed    uint64 // of the weights: equal Params give equal files
}

// HeadWidth is the width of one attention head, the least that vLLM has a CPU kernel for.
const HeadWidth = 32

// WithDefaults fills in what is left out, and checks the rest.
func (p Params) WithDefaults() (Params, error) {
	if p.Width == 0 {
		p.Width = 64
	}
	if p.Layers == 0 {
		p.Layers = 2
	}
	if p.Context == 0 {
		p.Context = 2048
	}
	if p.Width < 0 || p.Width%HeadWidth != 0 {
		return p, fmt.Errorf("cannot write a model: width %d is not a positive multiple of %d", p.Width, HeadWidth)
	}
	if p.Experts < 0 {
		return p, fmt.Errorf("cannot write a model: %d experts; they cannot be negative", p.Experts)
	}
	if p.Layers < 0 || p.Context < 0 {
		return p, fmt.Errorf("cannot write a model: %d layers, %d tokens of context; neither can be negative", p.Layers, p.Context)
	}
	return p, nil
}

// Write writes a model to w.
func Write(w io.Writer, p Params) error {
	p, err := p.WithDefaults()
	if err != nil {
		return err
	}
	return write(w, p.metadata(), p.tensors(), newNoise(p.Seed))
}

func write(w io.Writer, metadata []pair, tensors []tensor, weights *noise) error {
	out := bufio.NewWriterSize(w, 1<<20)
	if _, err := out.Write(header(metadata, tensors)); err != nil {
		return fmt.Errorf("cannot write a model: %w", err)
	}
	for _, t := range tensors {
		if err := t.writeData(out, weights); err != nil {
			return fmt.Errorf("cannot write a model: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("cannot write a model: %w", err)
	}
	return nil
}

// WriteFile writes a model to a file, whole or not at all. A file that is there is replaced.
func WriteFile(path string, p Params) error {
	return replace(path, func(w io.Writer) error { return Write(w, p) })
}

func replace(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".gguf-*")
	if err != nil {
		return fmt.Errorf("cannot write a model: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	err = write(f)
	if err == nil {
		err = f.Chmod(0o644) // the engine may run as another user
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// tensor is a matrix of float32, or a vector of ones where cols is 0.
type tensor struct {
	name       string
	rows, cols int   // a row is contiguous in memory, and a vector is one row
	more       []int // further dimensions
	zeros      int   // rows at the beginning that hold nothing
}

func (t tensor) values() int { return t.rows * t.count() }

// count is the number of rows.
func (t tensor) count() int {
	n := max(t.cols, 1)
	for _, d := range t.more {
		n *= d
	}
	return n
}

func (p Params) tensors() []tensor {
	width, ffn := p.Width, 2*p.Width
	list := []tensor{
		{name: "token_embd.weight", rows: width, cols: len(vocabulary())},
		{name: "output_norm.weight", rows: width},
		// Zeros put the special tokens and the bytes in the middle of all, and about half of the words before them: more than
		// the 40 that llama-server chooses from by default. So an answer neither ends by itself nor has half a character.
		{name: "output.weight", rows: width, cols: len(vocabulary()), zeros: len(vocabulary()) - words},
	}
	layer := []tensor{
		{name: "attn_norm", rows: width},
		{name: "attn_q", rows: width, cols: width},
		{name: "attn_k", rows: width, cols: width},
		{name: "attn_v", rows: width, cols: width},
		{name: "attn_output", rows: width, cols: width},
		{name: "ffn_norm", rows: width},
	}
	suffix, experts := "", []int(nil)
	if p.Experts > 0 {
		suffix, experts = "_exps", []int{p.Experts}
		layer = append(layer, tensor{name: "ffn_gate_inp", rows: width, cols: p.Experts})
	}
	layer = append(layer,
		tensor{name: "ffn_gate" + suffix, rows: width, cols: ffn, more: experts},
		tensor{name: "ffn_up" + suffix, rows: width, cols: ffn, more: experts},
		tensor{name: "ffn_down" + suffix, rows: ffn, cols: width, more: experts},
	)
	for i := range p.Layers {
		for _, t := range layer {
			t.name = fmt.Sprintf("blk.%d.%s.weight", i, t.name)
			list = append(list, t)
		}
	}
	return list
}

// writeData needs no padding between tensors: rows are multiples of 32 values, hence of GGUF's alignment of 32 bytes.
func (t tensor) writeData(w io.Writer, weights *noise) error {
	if t.cols == 0 {
		ones := make([]byte, 0, 4*t.rows)
		for range t.rows {
			ones = appendValue(ones, 1)
		}
		_, err := w.Write(ones)
		return err
	}
	if _, err := w.Write(make([]byte, 4*t.rows*t.zeros)); err != nil {
		return err
	}
	for range t.count() - t.zeros {
		if _, err := w.Write(weights.row(t.rows)); err != nil {
			return err
		}
	}
	return nil
}

// noise is where the weights come from. Each row is a window at a random place of values that were drawn once: a big model
// has 84 million of them, and to draw each took 6 s of CPU time with the race detector.
type noise struct {
	random *rand.Rand
	drawn  map[int][]byte // by the length of a row, which decides about their scale
}

func newNoise(seed uint64) *noise {
	return &noise{random: rand.New(rand.NewPCG(seed, 0)), drawn: map[int][]byte{}}
}

func (n *noise) row(values int) []byte {
	places := 16 * values
	data := n.drawn[values]
	if data == nil {
		scale := float32(1 / math.Sqrt(float64(values)))
		data = make([]byte, 0, 4*(places+values))
		for range places + values {
			data = appendValue(data, (2*n.random.Float32()-1)*scale)
		}
		n.drawn[values] = data
	}
	from := n.random.IntN(places)
	return data[4*from : 4*(from+values)]
}

func appendValue(data []byte, value float32) []byte {
	return binary.LittleEndian.AppendUint32(data, math.Float32bits(value))
}

// Types of the GGUF format, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
const (
	typeUint16  = 2
	typeUint32  = 4
	typeInt32   = 5
	typeFloat32 = 6
	typeBool    = 7
	typeString  = 8
	typeArray   = 9

	tensorFloat32 = 0
)

// pair is a key of the metadata and its value.
type pair struct {
	key   string
	value any
}

func (p Params) metadata() []pair {
	var texts []string
	var scores []float32
	var kinds []int32
	for _, t := range vocabulary() {
		texts = append(texts, t.text)
		scores = append(scores, 0)
		kinds = append(kinds, t.kind)
	}
	heads := p.Width / HeadWidth
	pairs := []pair{
		{"general.architecture", "llama"},
		{"general.name", fmt.Sprintf("random llama, width %d, %d layers", p.Width, p.Layers)},
		{"general.file_type", uint32(0)}, // all float32
		{"llama.vocab_size", uint32(len(texts))},
		{"llama.context_length", uint32(p.Context)},
		{"llama.embedding_length", uint32(p.Width)},
		{"llama.block_count", uint32(p.Layers)},
		{"llama.feed_forward_length", uint32(2 * p.Width)},
		{"llama.attention.head_count", uint32(heads)},
		{"llama.attention.head_count_kv", uint32(heads)},
		{"llama.attention.layer_norm_rms_epsilon", float32(1e-5)},
		{"llama.rope.dimension_count", uint32(HeadWidth)},
		{"tokenizer.ggml.model", "llama"},
		{"tokenizer.ggml.tokens", texts},
		{"tokenizer.ggml.scores", scores},
		{"tokenizer.ggml.token_type", kinds},
		{"tokenizer.ggml.unknown_token_id", uint32(0)},
		{"tokenizer.ggml.bos_token_id", uint32(1)},
		{"tokenizer.ggml.eos_token_id", uint32(2)},
	}
	if p.Experts > 0 {
		pairs = append(pairs, pair{"llama.expert_count", uint32(p.Experts)}, pair{"llama.expert_used_count", uint32(1)})
	}
	return pairs
}

func header(pairs []pair, tensors []tensor) []byte {
	var e encoder
	e.WriteString("GGUF")
	e.put(uint32(3), uint64(len(tensors)), uint64(len(pairs)))
	for _, pair := range pairs {
		e.text(pair.key)
		e.value(pair.value)
	}
	var offset uint64
	for _, t := range tensors {
		e.text(t.name)
		dims := []uint64{uint64(t.rows)}
		if t.cols > 0 {
			dims = append(dims, uint64(t.cols))
		}
		for _, d := range t.more {
			dims = append(dims, uint64(d))
		}
		e.put(uint32(len(dims)), dims, uint32(tensorFloat32), offset)
		offset += 4 * uint64(t.values())
	}
	const alignment = 32
	e.Write(make([]byte, (alignment-e.Len()%alignment)%alignment))
	return e.Bytes()
}

// encoder writes GGUF's types into memory.
type encoder struct{ bytes.Buffer }

func (e *encoder) put(values ...any) {
	for _, v := range values {
		if err := binary.Write(e, binary.LittleEndian, v); err != nil {
			panic(err) // only a type without a fixed size fails, which is a mistake in this file
		}
	}
}

func (e *encoder) text(s string) {
	e.put(uint64(len(s)))
	e.WriteString(s)
}

func (e *encoder) value(v any) {
	switch v := v.(type) {
	case bool:
		e.put(uint32(typeBool), v)
	case uint16:
		e.put(uint32(typeUint16), v)
	case int32:
		e.put(uint32(typeInt32), v)
	case uint32:
		e.put(uint32(typeUint32), v)
	case float32:
		e.put(uint32(typeFloat32), v)
	case string:
		e.put(uint32(typeString))
		e.text(v)
	case []string:
		e.put(uint32(typeArray), uint32(typeString), uint64(len(v)))
		for _, s := range v {
			e.text(s)
		}
	case []float32:
		e.put(uint32(typeArray), uint32(typeFloat32), uint64(len(v)), v)
	case []int32:
		e.put(uint32(typeArray), uint32(typeInt32), uint64(len(v)), v)
	default:
		panic(fmt.Sprintf("ggufgen: no encoding for %T", v))
	}
}
