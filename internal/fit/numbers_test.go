package fit

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gguf"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
)

// What an estimate says would fit does fit, and a little more does not.
func TestNumbers(t *testing.T) {
	t.Parallel()
	open := func(p ggufgen.Params) *gguf.Model {
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := ggufgen.WriteFile(path, p); err != nil {
			t.Fatal(err)
		}
		model, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return model
	}
	dense := open(ggufgen.Params{Width: 512, Layers: 8, Context: 1 << 17})
	mixture := open(ggufgen.Params{Width: 256, Layers: 8, Experts: 8})
	all := Remedies{Context: "-c", Layers: "-l", Experts: "-e"}
	for _, c := range []struct {
		name  string
		model *gguf.Model
		run   Run
		free  uint64 // of the GPU; 0 for none
		host  uint64
		want  string // an expression for all of it
	}{
		{name: "it fits", model: dense, run: Run{Settings: gguf.Settings{Layers: -1, Context: 1024}, Remedies: all}, free: 60 << 30, want: `by estimate the weights take \d+ MiB and the KV cache 16 MiB`},
		{name: "the context is too long", model: dense, run: Run{Settings: gguf.Settings{Layers: -1}, Remedies: all}, free: 1 << 30, want: `.*; GPU 7 lacks 1\.\d GiB; it would fit with -c \d+ or -l \d`},
		{name: "no room at all", model: dense, run: Run{Settings: gguf.Settings{Layers: -1}, Remedies: all}, free: 1 << 20, want: `.*; GPU 7 lacks 2\.\d GiB`},
		{name: "the engine chooses", model: dense, run: Run{Settings: gguf.Settings{Layers: -1}, Fits: true, Remedies: all}, free: 1 << 20, want: `by estimate the weights take \d+ MiB and the KV cache 2\.0 GiB`},
		{name: "the engine shrinks the context", model: dense, run: Run{Settings: gguf.Settings{Layers: -1}, LeastContext: 4096, Remedies: all}, free: 400 << 20, want: `by .* KV cache 64 MiB; GPU 7 lacks \d+ MiB; it would fit with -c [123]\d{3} or -l \d`},
		{name: "a mixture", model: mixture, run: Run{Settings: gguf.Settings{Layers: -1}, Remedies: all}, free: 340 << 20, want: `.*; it would fit with -e [1-8] or -l \d`},
		{name: "a mixture on an engine that chooses layers", model: mixture, run: Run{Settings: gguf.Settings{Layers: -1}, Remedies: Remedies{Experts: "-e"}}, free: 340 << 20, want: `.*; it would fit with -e [1-8]`},
		{name: "a mixture that is on the host already", model: mixture, run: Run{Settings: gguf.Settings{Layers: -1, OnHost: []string{gguf.Experts(`\d+`)}}, Remedies: Remedies{Experts: "-e"}}, free: 200 << 20, want: `.*; GPU 7 lacks \d+ MiB`},
		{name: "the CPU", model: dense, run: Run{Remedies: all}, host: 1 << 30, want: `.*; main memory lacks 1\.\d GiB; it would fit with -c \d+`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			check, gpus := &Check{Model: c.model, HostFree: c.host}, []gpu.Device(nil)
			if c.free > 0 {
				gpus = []gpu.Device{gpuWith(7, engine.Bytes(c.free))}
			}
			got := check.Numbers(&c.run, gpus)
			if !regexp.MustCompile(`^` + c.want + `$`).MatchString(got) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			_, ways, _ := strings.Cut(got, "would fit with ")
			for way := range strings.SplitSeq(ways, " or ") {
				flag, value, ok := strings.Cut(way, " ")
				n, _ := strconv.Atoi(value)
				if !ok {
					continue
				}
				fits := func(n int) bool {
					run := check.least(c.run, gpus)
					switch flag {
					case "-c":
						run.Context = n
					case "-e":
						run.OnHost = gguf.FirstExperts(n)
					case "-l":
						run.Layers = n
					}
					return len(Lacking(check.estimate(&run, gpus))) == 0
				}
				more := map[string]int{"-c": n + 1024, "-e": n - 1, "-l": n + 1}[flag]
				if !fits(n) || fits(more) {
					t.Errorf("%s %d: fits %v; %d: fits %v", flag, n, fits(n), more, fits(more))
				}
			}
		})
	}
	var none *Check
	if got := none.Numbers(&Run{}, nil) + (&Check{Model: dense}).Numbers(nil, nil); got != "" {
		t.Errorf("numbers of nothing: %q", got)
	}
}
