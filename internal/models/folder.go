package models

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/safetensors"
)

// weightFiles are the forms in which the engines read weights.
var weightFiles = []string{"*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.tensors"}

// CheckFolder finds out in milliseconds what an engine in Python says of a broken folder after 15 to 47 s: vLLM
// looks for config.json when all is imported, and at the weights when its workers run. What only may be wrong passes.
// special says that the configuration or the weights may be elsewhere, or of a form of their own. context is the number of
// tokens that the flags ask for, 0 for what the model has.
func CheckFolder(path string, special bool, context int) error {
	config, err := checkFolder(path, special)
	if err != nil {
		fault := Missing
		if errors.Is(err, safetensors.ErrFormat) || errors.Is(err, errGarbled) {
			fault = Corrupt
		}
		return &Error{fault, fmt.Errorf(`%w; check "model.id", or fetch what is missing again`, err)}
	}
	if has, key := config.context(); has > 0 && context > has {
		return &Error{BadFlag, fmt.Errorf("\"flags\" ask for a context of %d tokens, and the model has %d (%q in its config.json); "+
			"ask for less, or leave it out to have all", context, has, key)}
	}
	return nil
}

// checkFolder returns config.json as far as it can be read.
func checkFolder(path string, special bool) (modelConfig, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.IsDir() && strings.HasSuffix(path, ".gguf"): // vLLM and SGLang load some
		return nil, nil
	case !info.IsDir():
		return nil, fmt.Errorf("%q is a %s; name the folder of the model's files", path, access.Kind(info))
	}
	config, err := readModelConfig(path)
	if err != nil && !special && !hasParams(path) {
		return nil, err
	}
	shards, err := listedShards(filepath.Join(path, "model.safetensors.index.json"))
	if err != nil {
		return nil, err
	}
	if shards == nil {
		if shards, err = inFolder(path, "*.safetensors"); err != nil {
			return nil, err
		}
	}
	for _, shard := range shards {
		if err := safetensors.Check(shard); err != nil {
			return nil, err
		}
	}
	if len(shards) == 0 && !special && !hasWeights(path) {
		return nil, fmt.Errorf("%q holds no weights, such as model.safetensors", path)
	}
	return config, nil
}

// hasParams reports whether the model is of Mistral's own format.
func hasParams(path string) bool {
	_, err := os.Lstat(filepath.Join(path, "params.json"))
	return err == nil
}

func hasWeights(path string) bool {
	return slices.ContainsFunc(weightFiles, func(pattern string) bool {
		found, err := inFolder(path, pattern)
		return err == nil && len(found) > 0
	})
}

// inFolder are the files of a folder whose names match.
func inFolder(dir, pattern string) ([]string, error) {
	names, err := fs.Glob(os.DirFS(dir), pattern)
	for i := range names {
		names[i] = filepath.Join(dir, names[i])
	}
	return names, err
}

// errGarbled is wrapped by the errors of files that cannot be made sense of.
var errGarbled = errors.New("not what it should be")

// listedShards are the files that the index of a split model names; nil when there is no index.
func listedShards(index string) ([]string, error) {
	data, err := os.ReadFile(index)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var listed struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &listed); err != nil {
		return nil, fmt.Errorf("%w: %q: %w", errGarbled, index, err)
	}
	var shards []string
	for _, name := range slices.Compact(slices.Sorted(maps.Values(listed.WeightMap))) {
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%w: %q names %q, which is no file in its folder", errGarbled, index, name)
		}
		shards = append(shards, filepath.Join(filepath.Dir(index), name))
	}
	return shards, nil
}

// modelConfig is config.json, of which every kind of model has its own.
type modelConfig map[string]any

func readModelConfig(dir string) (config modelConfig, err error) {
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(data, &config)
	// Python writes Infinity and NaN, which JSON lacks: a file that is whole passes.
	if text := bytes.TrimSpace(data); bytes.HasPrefix(text, []byte("{")) && bytes.HasSuffix(text, []byte("}")) {
		return config, nil
	}
	if err != nil {
		err = fmt.Errorf("%w: %q: %w", errGarbled, path, err)
	}
	return nil, err
}

// contextKeys are the names for the number of positions that a model was made for, as vLLM looks for them
// (model_arch_config_convertor.py of 0.32.0).
var contextKeys = []string{
	"max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions",
	"max_sequence_length", "max_seq_length", "seq_len",
}

// knownRopes are the ways to scale positions that leave the number in contextKeys as it is, in every version.
var knownRopes = []string{"", "default", "llama3", "longrope", "su"}

// context is the number of tokens that the model was made for; 0 when that cannot be told for sure.
func (c modelConfig) context() (tokens int, key string) {
	text := c
	// A model of pictures has the text's numbers in a part of its own.
	if part, ok := c["text_config"].(map[string]any); ok {
		text = part
	}
	for _, rope := range []any{c["rope_scaling"], c["rope_parameters"], text["rope_scaling"], text["rope_parameters"]} {
		if !knownRope(rope) {
			return 0, ""
		}
	}
	// vLLM takes the least, but for exceptions; more than the greatest is refused by every version.
	for _, part := range []modelConfig{text, {"model_max_length": c["model_max_length"]}} {
		for _, name := range contextKeys {
			if n, ok := part[name].(float64); ok && n > float64(tokens) && n < 1<<40 {
				tokens, key = int(n), name
			}
		}
	}
	return tokens, key
}

// knownRope reads {"rope_type": "llama3", "factor": 8} or, with one more level, an object of such for each kind of layer.
func knownRope(value any) bool {
	rope, ok := value.(map[string]any)
	if !ok {
		return value == nil
	}
	for _, name := range []string{"rope_type", "type"} {
		kind, ok := rope[name].(string)
		if rope[name] != nil && !(ok && slices.Contains(knownRopes, kind)) {
			return false
		}
	}
	for _, inner := range rope {
		if layers, ok := inner.(map[string]any); ok && !knownRope(layers) {
			return false
		}
	}
	return true
}
