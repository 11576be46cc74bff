package models

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/hfgen"
	"github.com/llama-orch/engine-provisioner/internal/safetensors"
)

// modelFolder is a whole model, spread over two files.
func modelFolder(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := hfgen.Write(dir, hfgen.Params{Shards: 2}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCheckFolder(t *testing.T) {
	t.Parallel()
	const first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	remove := func(names ...string) func(string) error {
		return func(dir string) (err error) {
			for _, name := range names {
				err = errors.Join(err, os.Remove(filepath.Join(dir, name)))
			}
			return err
		}
	}
	write := func(name, content string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600) }
	}
	all := func(changes ...func(string) error) func(string) error {
		return func(dir string) (err error) {
			for _, change := range changes {
				err = errors.Join(err, change(dir))
			}
			return err
		}
	}
	const index = "model.safetensors.index.json"
	tests := map[string]struct {
		change  func(dir string) error
		special bool   // the flags say that something is elsewhere
		fault   Fault  // "" when it passes
		want    string // in the error
		is      error
	}{
		"whole":              {},
		"no index":           {change: remove(index)},
		"config is missing":  {change: remove("config.json"), fault: Missing, want: "config.json", is: fs.ErrNotExist},
		"config elsewhere":   {change: remove("config.json"), special: true},
		"Mistral's format":   {change: all(remove("config.json"), write("params.json", "{}"))},
		"config is a page":   {change: write("config.json", "<html>"), fault: Corrupt, want: "config.json", is: errGarbled},
		"config is cut":      {change: write("config.json", `{"model_type": "lla`), fault: Corrupt, want: "config.json", is: errGarbled},
		"config of Python":   {change: write("config.json", `{"time_step_limit": [0.0, Infinity]}`)},
		"a shard is missing": {change: remove(second), fault: Missing, want: second, is: fs.ErrNotExist},
		"a shard is cut": {
			change: func(dir string) error { return os.Truncate(filepath.Join(dir, second), 10_000) },
			fault:  Corrupt, want: "is cut short", is: safetensors.ErrFormat,
		},
		"a shard of Git LFS": {
			change: write(first, "version https://git-lfs.github.com/spec/v1\n"),
			fault:  Corrupt, want: "git lfs pull", is: safetensors.ErrFormat,
		},
		"cut without an index": {
			change: all(remove(index), func(dir string) error { return os.Truncate(filepath.Join(dir, first), 10_000) }),
			fault:  Corrupt, want: "is cut short", is: safetensors.ErrFormat,
		},
		"a file beside the index": {change: write("consolidated.safetensors", "half")},
		"index is garbage":        {change: write(index, "[]"), fault: Corrupt, want: index, is: errGarbled},
		"index leads out":         {change: write(index, `{"weight_map":{"a":"../a.safetensors"}}`), fault: Corrupt, want: "../a", is: errGarbled},
		"no weights": {
			change: remove(index, first, second), fault: Missing, want: "holds no weights",
		},
		"weights of an older form": {change: all(remove(index, first, second), write("pytorch_model.bin", "x"))},
		"no weights are needed":    {change: remove(index, first, second), special: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := modelFolder(t)
			if test.change != nil {
				if err := test.change(dir); err != nil {
					t.Fatal(err)
				}
			}
			err := CheckFolder(dir, test.special, 0)
			if test.fault == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var folder *Error
			if !errors.As(err, &folder) || folder.Fault != test.fault || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s with %q", err, test.fault, test.want)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
		})
	}
}

func TestCheckFolderWantsAFolder(t *testing.T) {
	t.Parallel()
	dir := modelFolder(t)
	var folder *Error
	err := CheckFolder(filepath.Join(dir, "config.json"), false, 0)
	if !errors.As(err, &folder) || !strings.Contains(err.Error(), "name the folder of the model's files") {
		t.Errorf("a file: %v", err)
	}
	gguf := filepath.Join(dir, "model.gguf")
	if err := os.WriteFile(gguf, []byte("GGUF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckFolder(gguf, false, 0); err != nil {
		t.Errorf("a GGUF: %v", err)
	}
}

func TestModelContext(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		config string
		want   int // the greatest context that passes; 0 when all do
	}{
		"llama 3.1": {`{"max_position_embeddings":131072,"rope_scaling":{"rope_type":"llama3","factor":8.0}}`, 131072},
		"plain":     {`{"max_position_embeddings":4096,"rope_scaling":null}`, 4096},
		"GPT-2":     {`{"n_positions":1024,"n_ctx":1024}`, 1024},
		"two keys":  {`{"max_position_embeddings":2048,"seq_length":8192}`, 8192},
		"Command R": {`{"max_position_embeddings":8192,"model_max_length":131072}`, 131072},
		"pictures": {`{"model_max_length":64,"vision_config":{"max_position_embeddings":77},` +
			`"text_config":{"max_position_embeddings":8192}}`, 8192},
		"only of pictures": {`{"vision_config":{"max_position_embeddings":77},"text_config":{}}`, 0},
		"linear":           {`{"max_position_embeddings":4096,"rope_scaling":{"type":"linear","factor":4.0}}`, 0},
		"yarn":             {`{"max_position_embeddings":32768,"rope_scaling":{"rope_type":"yarn","factor":4.0}}`, 0},
		"yarn of the text": {`{"text_config":{"max_position_embeddings":4096,"rope_parameters":{"rope_type":"yarn"}}}`, 0},
		"layers": {`{"max_position_embeddings":4096,"rope_parameters":{"full_attention":{"rope_type":"default"},` +
			`"sliding_attention":{"rope_type":"dynamic"}}}`, 0},
		"default layers": {`{"max_position_embeddings":4096,"rope_parameters":{"full_attention":{"rope_type":"default"}}}`, 4096},
		"strange rope":   {`{"max_position_embeddings":4096,"rope_scaling":"yes"}`, 0},
		"strange number": {`{"max_position_embeddings":"4096","n_positions":-1,"seq_len":1e30}`, 0},
		"nothing":        {`{}`, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := modelFolder(t)
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(test.config), 0o600); err != nil {
				t.Fatal(err)
			}
			if test.want == 0 {
				if err := CheckFolder(dir, false, 1<<30); err != nil {
					t.Error(err)
				}
				return
			}
			if err := CheckFolder(dir, false, test.want); err != nil {
				t.Error(err)
			}
			var folder *Error
			want := fmt.Sprintf("ask for a context of %d tokens, and the model has %d", test.want+1, test.want)
			if err := CheckFolder(dir, false, test.want+1); !errors.As(err, &folder) || folder.Fault != BadFlag ||
				!strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}
