package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/hfgen"
)

// file is a file with that header and that many bytes of data.
func file(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, data)...)
}

const one = `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		content []byte
		want    string // "" for a good file
	}{
		"good":        {file(one, 8), ""},
		"padded":      {file(one+"   ", 8), ""},
		"no tensors":  {file(`{}`, 0), ""},
		"empty":       {nil, "is empty"},
		"seven bytes": {make([]byte, 7), "has 7 bytes"},
		"LFS pointer": {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"), `run "git lfs pull"`},
		"a web page":  {[]byte("<!DOCTYPE html>"), `begins with "<!DOCTYP", which is no length of a header`},
		"cut header":  {file(one, 8)[:40], fmt.Sprintf("ends within its header: 40 bytes of %d are there", 8+len(one))},
		"cut data":    {file(one, 7), fmt.Sprintf("is cut short: its header promises %d bytes, and there are %d", 16+len(one), 15+len(one))},
		"too long":    {file(one, 9), fmt.Sprintf("has %d bytes, and its header promises %d", 17+len(one), 16+len(one))},
		"no JSON":     {file(`{"a":`, 0), "has a header that is no JSON: unexpected end"},
		"no object":   {file(`[]`, 0), "has a header that is no JSON: json: cannot unmarshal array"},
		"no offsets":  {file(`{"a":{"dtype":"F32"}}`, 0), `has no place for its tensor "a"`},
		"backwards":   {file(`{"a":{"data_offsets":[8,0]}}`, 8), `has no place for its tensor "a": data_offsets are [8 0]`},
		"overflow":    {file(`{"a":{"data_offsets":[0,9223372036854775807]}}`, 8), `has no place for its tensor "a"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "model.safetensors")
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			err := Check(path)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestCheckReportsWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	if err := Check(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrFormat) {
		t.Errorf("a missing file: %v", err)
	}
	var path *fs.PathError
	if err := Check(t.TempDir()); !errors.As(err, &path) || errors.Is(err, ErrFormat) {
		t.Errorf("a folder: %v", err)
	}
}

// A file as real tools write it, and each way to cut it short.
func TestCheckGeneratedModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := hfgen.Write(dir, hfgen.Params{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "model.safetensors")
	if err := Check(path); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{info.Size() - 1, info.Size() / 2, 2000, 100, 8, 3, 0} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if err := Check(path); !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// The header comes from anywhere.
func FuzzSize(f *testing.F) {
	f.Add(file(one, 8))
	f.Add(file(`{"a":{"data_offsets":[0,-1]}}`, 8))
	f.Add([]byte("version https://git-lfs"))
	f.Fuzz(func(t *testing.T, content []byte) {
		n, err := size(bytes.NewReader(content), int64(len(content)))
		var problem formatError
		if err != nil && !errors.As(err, &problem) {
			t.Errorf("%v", err)
		}
		if err == nil && n < 8 {
			t.Errorf("a whole file of %d bytes", n)
		}
	})
}

// A model of a trillion parameters has its 60 headers of 500 kB read before each start.
func BenchmarkCheck(b *testing.B) {
	var header strings.Builder
	header.WriteString("{")
	for i := range 3000 {
		fmt.Fprintf(&header, `"model.layers.%d.mlp.experts.%d.gate_proj.weight_packed":{"dtype":"I32","shape":[2048,896],"data_offsets":[%d,%d]},`,
			i/384, i%384, i, i+1)
	}
	header.WriteString(`"z":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`)
	path := filepath.Join(b.TempDir(), "model.safetensors")
	if err := os.WriteFile(path, file(header.String(), 3000), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(header.Len()))
	for b.Loop() {
		if err := Check(path); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCheckIsNotHeldUp(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "model.safetensors")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(pipe); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a pipe: %v", err)
	}
	many := `{"` + strings.Repeat("w", 1000) + `":{"data_offsets":[` + strings.Repeat("1,", 100000) + `1]}}`
	if _, err := lastOffset([]byte(many)); err == nil || len(err.Error()) > 500 {
		t.Errorf("a message of %d bytes", len(err.Error()))
	}
}
