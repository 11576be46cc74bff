package gguf

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

func model(t testing.TB, p ggufgen.Params) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := ggufgen.WriteFile(path, p); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpen(t *testing.T) {
	t.Parallel()
	path := model(t, ggufgen.Params{})
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || m.Architecture() != "llama" || m.Size() != uint64(info.Size()) {
		t.Errorf("%q of %d bytes; the file has %d (%v)", m.Architecture(), m.Size(), info.Size(), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile(model(t, ggufgen.Params{}))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":               {nil, "is empty"},
		"two bytes":           {[]byte("GG"), `begins with "GG"`},
		"a web page":          {[]byte("<!doctype html>"), "a page of HTML"},
		"a pointer":           {[]byte("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"},
		"an older format":     {[]byte("tjgg\x03\x00\x00\x00"), "a format before GGUF"},
		"something":           {[]byte("something"), `begins with "some" instead`},
		"the magic alone":     {[]byte("GGUF"), "ends within its header"},
		"half a header":       {whole[:1000], "ends within its header"},
		"half of the weights": {whole[:len(whole)/2], "bytes"},
		"a byte short":        {whole[:len(whole)-64], "bytes"},
		"countless tensors":   {append(append([]byte{}, whole[:8]...), bytes.Repeat([]byte{0xff}, 64)...), "18446744073709551615 tensors"},
		"20 bytes":            {append(append([]byte{}, whole[:8]...), 16, 1, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0), "truncated"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "model.gguf")
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing.gguf")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	far := filepath.Join(t.TempDir(), "far.gguf")
	if err := os.WriteFile(far, append([]byte("GGUF\x63\x00\x00\x00"), whole[8:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(far); !errors.Is(err, ErrUnknown) {
		t.Errorf("a version of the future: %v", err)
	}
	one := filepath.Join(t.TempDir(), "model-00001-of-00002.gguf")
	if err := os.WriteFile(one, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(one); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "00002-of-00002") {
		t.Errorf("half of a split model: %v", err)
	}
}

func TestEstimateOnGPUs(t *testing.T) {
	t.Parallel()
	m, err := Open(model(t, ggufgen.Params{Width: 512, Layers: 8}))
	if err != nil {
		t.Fatal(err)
	}
	estimate := func(s Settings) Need {
		t.Helper()
		need, ok := m.Estimate(s)
		if !ok {
			t.Errorf("%+v: no estimate", s)
		}
		return need
	}
	host := estimate(Settings{}).Host
	whole := estimate(Settings{Layers: -1, Shares: []float64{1}})
	if whole.GPUs[0] < host || whole.Host > host {
		t.Errorf("on one GPU: %+v, on the CPU %d", whole, host)
	}
	half := estimate(Settings{Layers: 4, Shares: []float64{1}})
	if half.GPUs[0] >= whole.GPUs[0] || half.Host <= whole.Host {
		t.Errorf("half of the layers: %+v, all: %+v", half, whole)
	}
	two := estimate(Settings{Layers: -1, Shares: []float64{3, 1}})
	if len(two.GPUs) != 2 || two.GPUs[0] <= two.GPUs[1] || two.GPUs[1] <= gpuOverhead {
		t.Errorf("over two GPUs, 3 to 1: %+v, on one: %+v", two, whole)
	}
	if none := estimate(Settings{Layers: 0, Shares: []float64{1}}); none.GPUs[0] != 0 || none.Host != host {
		t.Errorf("no layers on the GPU: %+v", none)
	}
	if more := estimate(Settings{Context: 8192}).Host; more <= host {
		t.Errorf("a larger context takes %d, the model's own %d", more, host)
	}
	if less := estimate(Settings{KeyType: "q8_0", ValueType: "q8_0"}).Host; less >= host {
		t.Errorf("a KV cache of 8 bits takes %d, of 16 %d", less, host)
	}
	// A logical batch below the default of the physical one lowers that, too.
	if less := estimate(Settings{Batch: 128}).Host; less >= host {
		t.Errorf("a batch of 128 takes %d, of 2048 %d", less, host)
	}
	if more := estimate(Settings{BesideBytes: 1 << 30}).Host; more != host+1<<30 {
		t.Errorf("a model beside: %d", more)
	}
}

func TestEstimateKeepsOnHost(t *testing.T) {
	t.Parallel()
	m, err := Open(model(t, ggufgen.Params{Width: 512, Layers: 8}))
	if err != nil {
		t.Fatal(err)
	}
	var up, first uint64
	for _, tensor := range m.file.TensorInfos {
		if strings.Contains(tensor.Name, ".ffn_up") {
			up += tensor.Bytes()
			first = tensor.Bytes()
		}
	}
	estimate := func(s Settings) Need {
		t.Helper()
		need, ok := m.Estimate(s)
		if !ok {
			t.Errorf("%+v: no estimate", s)
		}
		return need
	}
	gpus := Settings{Layers: -1, Shares: []float64{1, 1}}
	whole := estimate(gpus)
	gpus.OnHost = []string{`blk\.(0|1)\.ffn_up`, `blk\.7\.ffn_up`, `blk\.7\.ffn_up`}
	some := estimate(gpus)
	if some.GPUs[0] != whole.GPUs[0]-2*first || some.GPUs[1] != whole.GPUs[1]-first || some.Host != whole.Host+3*first {
		t.Errorf("of all %+v, less %d three times: %+v", whole, first, some)
	}
	gpus.OnHost = []string{"ffn_up"}
	if all := estimate(gpus); all.GPUs[0]+all.GPUs[1] != whole.GPUs[0]+whole.GPUs[1]-up {
		t.Errorf("of all %+v, less %d: %+v", whole, up, all)
	}
	part := Settings{Layers: 3, Shares: []float64{1}} // blocks 6 and 7, and the output
	partly := estimate(part)
	part.OnHost = []string{"ffn_up"}
	if got := estimate(part); got.GPUs[0] != partly.GPUs[0]-2*first {
		t.Errorf("of %+v, less %d twice: %+v", partly, first, got)
	}
	if _, ok := m.Estimate(Settings{Layers: -1, Shares: []float64{1}, OnHost: []string{"("}}); ok {
		t.Error("an expression that cannot be read has an estimate")
	}
}

func TestFractions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ shares, want []float64 }{
		{[]float64{1}, []float64{1}},
		{[]float64{3, 1}, []float64{0.75, 1}},
		{[]float64{0, 2, 2}, []float64{0, 0.5, 1}},
		{[]float64{0, 0}, []float64{0.5, 1}},
		{[]float64{-1, 1}, []float64{0, 1}},
	} {
		got := fractions(c.shares)
		if len(got) != len(c.want) {
			t.Fatalf("%v: %v", c.shares, got)
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%v: got %v, want %v", c.shares, got, c.want)
			}
		}
	}
}
