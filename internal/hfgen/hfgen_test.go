package hfgen

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// write returns the files of a model.
func write(t *testing.T, p Params) map[string][]byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := Write(dir, p); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		if files[entry.Name()], err = os.ReadFile(filepath.Join(dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestWriteIsDeterministic(t *testing.T) {
	t.Parallel()
	first, again := write(t, Params{}), write(t, Params{Width: 64, Layers: 2, Context: 2048})
	size := 0
	for name, content := range first {
		size += len(content)
		if string(again[name]) != string(content) {
			t.Errorf("the defaults spelled out give another %s", name)
		}
	}
	if size >= 1_000_000 {
		t.Errorf("the smallest model has %d bytes", size)
	}
	other := write(t, Params{Seed: 1})["model.safetensors"]
	if string(other) == string(first["model.safetensors"]) || len(other) != len(first["model.safetensors"]) {
		t.Error("another seed must give other weights in a file of the same size")
	}
}

// The layout is read again by the rules of the format: each tensor of the model once, in its shape, without a hole.
func TestWeights(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		params Params
		files  []string
	}{
		"one file":   {Params{}, []string{"model.safetensors"}},
		"two shards": {Params{Shards: 2}, []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}},
		"larger":     {Params{Width: 96, Layers: 3, Context: 512}, []string{"model.safetensors"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := write(t, test.params)
			found, shard := map[string][]int{}, map[string]string{}
			for _, file := range test.files {
				for name, shape := range readSafetensors(t, files[file]) {
					found[name], shard[name] = shape, file
				}
			}
			params, _ := test.params.withDefaults()
			want := params.tensors()
			if len(found) != len(want) {
				t.Errorf("%d tensors, want %d", len(found), len(want))
			}
			for _, tensor := range want {
				if !slices.Equal(found[tensor.name], tensor.shape()) {
					t.Errorf("%s has the shape %v, want %v", tensor.name, found[tensor.name], tensor.shape())
				}
			}
			var index struct {
				WeightMap map[string]string `json:"weight_map"`
			}
			text, sharded := files["model.safetensors.index.json"]
			if sharded != (len(test.files) > 1) {
				t.Fatalf("an index: %v", sharded)
			}
			if !sharded {
				return
			}
			unmarshal(t, text, &index)
			for name, file := range shard {
				if index.WeightMap[name] != file {
					t.Errorf("the index has %s in %q, and it is in %q", name, index.WeightMap[name], file)
				}
			}
		})
	}
}

// readSafetensors returns the shapes of the tensors in a file.
func readSafetensors(t *testing.T, file []byte) map[string][]int {
	t.Helper()
	length := int(binary.LittleEndian.Uint64(file))
	if length%8 != 0 {
		t.Errorf("the data begin at %d, which is not a multiple of 8", 8+length)
	}
	var header map[string]json.RawMessage
	unmarshal(t, file[8:8+length], &header)
	delete(header, "__metadata__")
	shapes, ranges := map[string][]int{}, [][]int{}
	for name, raw := range header {
		var entry struct {
			DType   string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets []int  `json:"data_offsets"`
		}
		unmarshal(t, raw, &entry)
		size := 4
		for _, n := range entry.Shape {
			size *= n
		}
		if entry.DType != "F32" || entry.Offsets[1]-entry.Offsets[0] != size {
			t.Errorf("%s: %+v", name, entry)
		}
		shapes[name], ranges = entry.Shape, append(ranges, entry.Offsets)
	}
	slices.SortFunc(ranges, slices.Compare)
	end := 0
	for _, r := range ranges {
		if r[0] != end {
			t.Errorf("a tensor begins at %d, and the one before it ends at %d", r[0], end)
		}
		end = r[1]
	}
	if len(file) != 8+length+end {
		t.Errorf("the file has %d bytes, want %d", len(file), 8+length+end)
	}
	return shapes
}

func TestTokenizer(t *testing.T) {
	t.Parallel()
	files := write(t, Params{})
	var tokenizer struct {
		Model struct {
			Vocab map[string]int `json:"vocab"`
		} `json:"model"`
	}
	unmarshal(t, files["tokenizer.json"], &tokenizer)
	vocabulary := tokenizer.Model.Vocab
	// The letters of GPT-2's alphabet: a space is written as U+0120, a line feed as U+010A.
	for text, id := range map[string]int{"A": 'A', "Ġ": ' ', "Ċ": '\n', "ÿ": 255, "Ń": 173, "<s>": bos, "</s>": eos} {
		if got, ok := vocabulary[text]; !ok || got != id {
			t.Errorf("%q is token %d, want %d", text, got, id)
		}
	}
	ids := map[int]bool{}
	for _, id := range vocabulary {
		ids[id] = true
	}
	var config struct {
		VocabSize int `json:"vocab_size"`
		BOS       int `json:"bos_token_id"`
		EOS       int `json:"eos_token_id"`
	}
	unmarshal(t, files["config.json"], &config)
	if len(ids) != config.VocabSize || !ids[config.BOS] || !ids[config.EOS] {
		t.Errorf("%d tokens for %+v", len(ids), config)
	}
}

func TestWriteRefusesBadParams(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		params Params
		want   string
	}{
		{Params{Width: 65}, "cannot write a model: width 65 is not a positive multiple of 32"},
		{Params{Width: -32}, "cannot write a model: width -32 is not a positive multiple of 32"},
		{Params{Layers: -1}, "cannot write a model: -1 layers, 2048 tokens of context; neither can be negative"},
	} {
		dir := filepath.Join(t.TempDir(), "model")
		if err := Write(dir, test.params); err == nil || err.Error() != test.want {
			t.Errorf("Write(%+v) = %v, want %s", test.params, err, test.want)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v left a folder behind (%v)", test.params, err)
		}
	}
}

func unmarshal(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
}
