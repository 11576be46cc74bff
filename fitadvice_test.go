package provisioner

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
	"github.com/llama-orch/engine-provisioner/settings"
)

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
	plan, err := planOf(t.Context(), cfg, small, WithCacheDir(t.TempDir()))
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
		{enginetable.LlamaServer(t), nil, false, true, false},
		{enginetable.LlamaServer(t), []string{"-ngl", "auto"}, false, true, false},
		{enginetable.LlamaServer(t), []string{"-ngl", "99"}, true, true, false},
		{enginetable.LlamaServer(t), []string{"--fit", "off"}, false, true, true},
		{enginetable.OldLlamaServer(t), nil, false, false, true},
	} {
		spec, err := launchOf(llamacpp.Engine{}, ProvisionConfig{Model: settings.Model{ID: "m.gguf"}, Flags: c.flags}, c.host)
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
