package provisioner

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/gguf"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

// What an estimate says would fit does fit, and a little more does not.
func TestMemoryNumbers(t *testing.T) {
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
	all := engine.GGUFRemedies{Context: "-c", Layers: "-l", Experts: "-e"}
	for _, c := range []struct {
		name  string
		model *gguf.Model
		run   engine.GGUFRun
		free  uint64 // of the GPU; 0 for none
		host  uint64
		want  string // an expression for all of it
	}{
		{name: "it fits", model: dense, run: engine.GGUFRun{Layers: -1, Context: 1024, Remedies: all}, free: 60 << 30, want: `by estimate the weights take \d+ MiB and the KV cache 16 MiB`},
		{name: "the context is too long", model: dense, run: engine.GGUFRun{Layers: -1, Remedies: all}, free: 1 << 30, want: `.*; GPU 7 lacks 1\.\d GiB; it would fit with -c \d+ or -l \d`},
		{name: "no room at all", model: dense, run: engine.GGUFRun{Layers: -1, Remedies: all}, free: 1 << 20, want: `.*; GPU 7 lacks 2\.\d GiB`},
		{name: "the engine chooses", model: dense, run: engine.GGUFRun{Layers: -1, Fits: true, Remedies: all}, free: 1 << 20, want: `by estimate the weights take \d+ MiB and the KV cache 2\.0 GiB`},
		{name: "the engine shrinks the context", model: dense, run: engine.GGUFRun{Layers: -1, LeastContext: 4096, Remedies: all}, free: 400 << 20, want: `by .* KV cache 64 MiB; GPU 7 lacks \d+ MiB; it would fit with -c [123]\d{3} or -l \d`},
		{name: "a mixture", model: mixture, run: engine.GGUFRun{Layers: -1, Remedies: all}, free: 340 << 20, want: `.*; it would fit with -e [1-8] or -l \d`},
		{name: "a mixture on an engine that chooses layers", model: mixture, run: engine.GGUFRun{Layers: -1, Remedies: engine.GGUFRemedies{Experts: "-e"}}, free: 340 << 20, want: `.*; it would fit with -e [1-8]`},
		{name: "a mixture that is on the host already", model: mixture, run: engine.GGUFRun{Layers: -1, OnHost: []string{gguf.Experts(`\d+`)}, Remedies: engine.GGUFRemedies{Experts: "-e"}}, free: 200 << 20, want: `.*; GPU 7 lacks \d+ MiB`},
		{name: "the CPU", model: dense, run: engine.GGUFRun{Remedies: all}, host: 1 << 30, want: `.*; main memory lacks 1\.\d GiB; it would fit with -c \d+`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			check, gpus := &memoryCheck{model: c.model, hostFree: c.host}, []engine.GPU(nil)
			if c.free > 0 {
				gpus = []engine.GPU{gpuWith(7, c.free)}
			}
			got := check.numbers(&c.run, gpus)
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
					return len(lacking(check.estimate(&run, gpus))) == 0
				}
				more := map[string]int{"-c": n + 1024, "-e": n - 1, "-l": n + 1}[flag]
				if !fits(n) || fits(more) {
					t.Errorf("%s %d: fits %v; %d: fits %v", flag, n, fits(n), more, fits(more))
				}
			}
		})
	}
	var none *memoryCheck
	if got := none.numbers(&engine.GGUFRun{}, nil) + (&memoryCheck{model: dense}).numbers(nil, nil); got != "" {
		t.Errorf("numbers of nothing: %q", got)
	}
}

// The numbers are in the refused start, in the plan, and in the error of an engine that dies of it.
func TestMemoryNumbersAreTold(t *testing.T) {
	t.Parallel()
	const numbers = `by estimate the weights take \d+ MiB and the KV cache \d+ MiB; GPU 0 lacks \d+ MiB`
	advice := regexp.MustCompile(`use a smaller model, a smaller --ctx-size or --n-gpu-layers auto for as many as fit; ` + numbers)
	small := withGPUs(&fakeGPUs{gpus: []engine.GPU{gpuWith(0, 64<<20)}})

	cfg := ggufConfig(t, enginetest.Behavior{})
	cfg.Fit = "require"
	p, err := New(cfg, small, WithCacheDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	var start *StartError
	if err := p.Start(t.Context()); !errors.As(err, &start) || !advice.MatchString(start.Advice) || !strings.HasSuffix(start.Advice, `; "fit: warn" tries all the same`) {
		t.Errorf("refused with %v", err)
	}
	plan, err := Plan(t.Context(), cfg, small, WithCacheDir(t.TempDir()))
	if err != nil || !regexp.MustCompile(`memory: `+numbers).MatchString(fmt.Sprint(plan.Notes)) {
		t.Errorf("planned with %q (%v)", plan.Notes, err)
	}

	cfg = ggufConfig(t, enginetest.Behavior{DieLoading: &enginetest.Death{
		Code: 1, Stderr: "ggml_cuda: allocating 512.00 MiB on device 0: cudaMalloc failed: out of memory\n",
	}})
	cfg.Flags = append(cfg.Flags, "--n-gpu-layers", "99")
	crashing, j := newLaunch(t, cfg, small)
	err = crashing.Start(t.Context())
	if err == nil {
		_, err = crashing.WaitReady(t.Context())
	}
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Cause != engine.CauseOOMGPU || !advice.MatchString(exit.Advice) {
		t.Errorf("died of %v", err)
	}
	if !regexp.MustCompile(`not enough memory, by estimate: GPU 0 .*; ` + numbers).MatchString(j.notes()) {
		t.Errorf("notes: %q", j.notes())
	}
}

func TestLlamaMemoryAdvice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host  engine.Host
		flags []string
		auto  bool
		moe   bool
		fewer bool
	}{
		{realHost(t), nil, false, true, false},
		{realHost(t), []string{"-ngl", "auto"}, false, true, false},
		{realHost(t), []string{"-ngl", "99"}, true, true, false},
		{realHost(t), []string{"--fit", "off"}, false, true, true},
		{oldHost(t), nil, false, false, true},
	} {
		spec, err := launchOf(llamaCPP{}, ProvisionConfig{Model: ModelConfig{ID: "m.gguf"}, Flags: c.flags}, c.host)
		if err != nil {
			t.Fatal(err)
		}
		got := spec.Advice[engine.CauseOOMGPU]
		for text, want := range map[string]bool{"--ctx-size": true, "--n-gpu-layers auto": c.auto, "--n-cpu-moe N": c.moe, "fewer --n-gpu-layers": c.fewer} {
			if strings.Contains(got, text) != want {
				t.Errorf("%q: %q in %q, want %v", c.flags, text, got, want)
			}
		}
	}
}
