package provisioner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/fit"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

func TestLlamaMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		flags []string
		env   map[string]settings.EnvValue
		want  engine.GGUFRun
	}{
		{name: "nothing said", want: engine.GGUFRun{Layers: 0, Slots: 1}},
		{
			name: "all that counts",
			flags: []string{
				"-c", "4096", "-np", "4", "-b", "1024", "-ub", "256", "-ctk", "q8_0", "-ctv", "q4_0", "-fa", "off", "-nkvo", "--swa-full",
				"-mm", "p.gguf", "-md", "d.gguf", "--lora", "l.gguf",
			},
			want: engine.GGUFRun{
				Context: 4096, Slots: 4, Batch: 1024, MicroBatch: 256, KeyType: "q8_0", ValueType: "q4_0", NoFlash: true, KVOnHost: true,
				FullSWA: true, Beside: []string{"p.gguf", "d.gguf", "l.gguf"},
			},
		},
		{
			name:  "the command line wins over the environment",
			flags: []string{"--ctx-size", "512"},
			env:   map[string]settings.EnvValue{"LLAMA_ARG_CACHE_TYPE_K": {Value: "q8_0"}},
			want:  engine.GGUFRun{Context: 512, Slots: 1, KeyType: "q8_0"},
		},
		{name: "not mapped", flags: []string{"--no-mmap"}, want: engine.GGUFRun{Slots: 1, Copied: true}},
		{name: "mapped and locked", flags: []string{"--mlock", "--no-repack"}, want: engine.GGUFRun{Slots: 1, NoRepack: true}},
		{name: "windows as they are", env: map[string]settings.EnvValue{"LLAMA_ARG_SWA_FULL": {Value: "0"}}, want: engine.GGUFRun{Slots: 1}},
		{name: "the cache on the GPU", env: map[string]settings.EnvValue{"LLAMA_ARG_KV_OFFLOAD": {Value: "0"}}, want: engine.GGUFRun{Slots: 1, KVOnHost: true}},
		{
			name: "several adapters", flags: []string{"--lora", "a,b", "--lora-scaled", "/x/c.gguf:0.5,d:1"},
			want: engine.GGUFRun{Slots: 1, Beside: []string{"a", "b", "/x/c.gguf", "d"}},
		},
		{
			name: "experts on the host", flags: []string{"--n-cpu-moe", "2", "-ot", "exps=CPU,^out=CPU"},
			want: engine.GGUFRun{Slots: 1, ExpertsOnHost: 2, OnHost: []string{"exps", "^out"}},
		},
		{name: "locked alone", env: map[string]settings.EnvValue{"LLAMA_ARG_LOAD_MODE": {Value: "mlock"}}, want: engine.GGUFRun{Slots: 1, Copied: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			spec, err := launchOf(llamacpp.Engine{}, ProvisionConfig{GPU: engine.GPUNone, Flags: c.flags, Env: c.env, Model: settings.Model{ID: "m.gguf"}}, engine.Host{})
			if err != nil {
				t.Fatal(err)
			}
			spec.GGUF.Remedies = engine.GGUFRemedies{}
			if !reflect.DeepEqual(*spec.GGUF, c.want) {
				t.Errorf("got  %+v\nwant %+v", *spec.GGUF, c.want)
			}
		})
	}
	spec, err := launchOf(llamacpp.Engine{}, ProvisionConfig{
		Model: settings.Model{ID: "m.gguf"}, Flags: []string{"-ts", "3,1", "-sm", "row", "-mg", "1", "-ngl", "12"},
	}, engine.Host{GPUs: []engine.GPU{gpu0, gpu1}})
	for _, flags := range [][]string{
		{"-ot", "exps=CUDA1"}, {"-ot", "(=CPU"}, {"--n-cpu-ffn", "4"}, {"-hfd", "a/b"}, {"--mmproj-url", "https://example.com/p.gguf"},
	} {
		spec, err := launchOf(llamacpp.Engine{}, ProvisionConfig{Model: settings.Model{ID: "m.gguf"}, Flags: flags}, engine.Host{GPUs: []engine.GPU{gpu0}})
		if err != nil || spec.GGUF != nil {
			t.Errorf("%q: %+v (%v), want no estimate", flags, spec.GGUF, err)
		}
	}
	want := engine.GGUFRun{
		Slots: 1, Layers: 12, Shares: []float64{3, 1}, Split: "row", MainGPU: 1, LeastContext: 4096,
		Remedies: engine.GGUFRemedies{Context: "--ctx-size", Experts: "--n-cpu-moe"},
	}
	if err != nil || !reflect.DeepEqual(*spec.GGUF, want) {
		t.Errorf("on GPUs: %+v (%v)", spec.GGUF, err)
	}
}

// Newer builds give an engine less context than its model has, or fewer layers, where memory lacks: that is no reason to
// refuse the start.
func TestFitLeavesToTheEngineWhatItDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flags []string
		least int
		fits  bool
	}{
		{nil, 4096, true},
		{[]string{"--fit-ctx", "2048"}, 2048, true},
		{[]string{"--fit-ctx", "2048", "--fit", "off"}, 0, false},
		{[]string{"-c", "8192"}, 0, true},
		{[]string{"-ngl", "auto"}, 4096, true},
		{[]string{"-ngl", "-1"}, 4096, true},
		{[]string{"-ngl", "all"}, 4096, false},
		{[]string{"-ngl", "-2"}, 4096, false},
		{[]string{"-ngl", "20"}, 4096, false},
		{[]string{"-ngl", "auto", "--fit", "off"}, 0, false},
	} {
		spec, err := launchOf(llamacpp.Engine{}, ProvisionConfig{Model: settings.Model{ID: "m.gguf"}, Flags: c.flags}, engine.Host{GPUs: []engine.GPU{gpu0}})
		if err != nil || spec.GGUF == nil || spec.GGUF.LeastContext != c.least || spec.GGUF.Fits != c.fits || spec.GGUF.Layers < -1 {
			t.Errorf("%v: %+v (%v)", c.flags, spec.GGUF, err)
		}
	}
}

// gpuWith is a GPU with so much free memory.
func gpuWith(index int, free engine.Bytes) engine.GPU {
	return engine.GPU{Index: index, UUID: fmt.Sprintf("GPU-%04d", index), Name: "NVIDIA A100", MemoryTotal: 80 << 30, MemoryFree: free}
}

// ggufConfig is a fake engine's replica with a model whose memory can be estimated: 125 MiB on the CPU.
func ggufConfig(t testing.TB, b enginetest.Behavior) ProvisionConfig {
	t.Helper()
	cfg := fakeConfig(t, b)
	cfg.GPU = engine.GPUOptional
	if err := ggufgen.WriteFile(cfg.Model.ID, ggufgen.Params{Width: 512, Layers: 8}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestDevicesAuto(t *testing.T) {
	t.Parallel()
	const whole = 500 << 20 // more than the model needs on one engine.GPU, its share of the CUDA context included
	for _, c := range []struct {
		name string
		gpus []engine.GPU
		want []int
	}{
		{"the roomiest that is enough", []engine.GPU{gpuWith(0, whole), gpuWith(1, 2*whole), gpuWith(2, whole)}, []int{1}},
		{"two where one is not enough", []engine.GPU{gpuWith(0, 100<<20), gpuWith(1, 360<<20), gpuWith(2, 360<<20)}, []int{1, 2}},
		{"all where none is", []engine.GPU{gpuWith(0, 1<<20), gpuWith(1, 1<<20)}, []int{0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := ggufConfig(t, enginetest.Behavior{})
			cfg.Devices = settings.DevicesAuto()
			plan, err := planOf(t.Context(), cfg, withGPUs(&fakeGPUs{gpus: c.gpus}), WithCacheDir(t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, g := range plan.GPUs {
				got = append(got, g.Index)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v: %v", got, c.want, plan.Memory)
			}
		})
	}
}

// What can be told of no model is not judged, and the GPU with the most room is taken.
func TestDevicesAutoWithoutEstimate(t *testing.T) {
	t.Parallel()
	got, err := fewest(nil, []engine.GPU{gpuWith(0, 1), gpuWith(1, 2)}, func([]engine.GPU) (engine.LaunchSpec, error) { return engine.LaunchSpec{}, nil })
	if err != nil || len(got) != 1 || got[0].Index != 1 {
		t.Errorf("%v (%v)", got, err)
	}
}

func TestFit(t *testing.T) {
	t.Parallel()
	small := withGPUs(&fakeGPUs{gpus: []engine.GPU{gpuWith(0, 64<<20)}})
	t.Run("require", func(t *testing.T) {
		t.Parallel()
		cfg := ggufConfig(t, enginetest.Behavior{})
		cfg.Fit = "require"
		p, err := New(cfg, small, WithCacheDir(t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		err = p.Start(t.Context())
		var start *StartError
		if !errors.As(err, &start) || !errors.Is(err, ErrNoMemory) || start.Cause != engine.CauseOOMGPU || !start.Retry {
			t.Fatalf("%v", err)
		}
		if e := IncidentOf(err); !e.Blameless || e.Permanent {
			t.Errorf("it is the engine's fault: %+v", e)
		}
		if !regexp.MustCompile(`GPU 0 needs \d+ MiB and has 64 MiB free`).MatchString(err.Error()) {
			t.Errorf("the numbers are missing: %v", err)
		}
		if _, err := os.Stat(filepath.Join(cfg.StateDir, "pool-r0", "record.json")); err == nil {
			t.Error("a launch was recorded")
		}
	})
	t.Run("a replica that runs already", func(t *testing.T) {
		t.Parallel()
		cfg := ggufConfig(t, enginetest.Behavior{})
		ready(t, cfg, withGPUs(&fakeGPUs{gpus: []engine.GPU{gpuWith(0, 2<<30)}}))
		cfg.Fit = "require"
		again, _ := newLaunch(t, cfg, small)
		if err := again.Start(t.Context()); !errors.Is(err, ErrBusy) || errors.Is(err, ErrNoMemory) {
			t.Errorf("%v", err)
		}
	})
	t.Run("warn", func(t *testing.T) {
		t.Parallel()
		cfg := ggufConfig(t, enginetest.Behavior{})
		cfg.Flags = append(cfg.Flags, "--n-gpu-layers", "99")
		_, j := ready(t, cfg, small)
		if !strings.Contains(j.notes(), "GPU 0 needs") {
			t.Errorf("notes: %q", j.notes())
		}
	})
	t.Run("the engine finds room", func(t *testing.T) {
		t.Parallel()
		_, j := ready(t, ggufConfig(t, enginetest.Behavior{}), small)
		if strings.Contains(j.notes(), "needs") {
			t.Errorf("notes: %q", j.notes())
		}
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		cfg := ggufConfig(t, enginetest.Behavior{})
		cfg.Fit = "off"
		_, j := ready(t, cfg, small)
		if strings.Contains(j.notes(), "needs") {
			t.Errorf("notes: %q", j.notes())
		}
	})
	t.Run("main memory", func(t *testing.T) {
		t.Parallel()
		cfg := ggufConfig(t, enginetest.Behavior{})
		cfg.GPU = engine.GPUNone
		plan, err := planOf(t.Context(), cfg, WithCacheDir(t.TempDir()))
		if err != nil || len(plan.Memory) != 1 || plan.Memory[0].GPU != "" || plan.Memory[0].Need < 100<<20 || !plan.Memory[0].Fits() {
			t.Errorf("%v (%v)", plan.Memory, err)
		}
	})
}

// Two replicas that start at the same time do not both count on the same free memory.
func TestFitCountsWhatIsLoading(t *testing.T) {
	t.Parallel()
	gpus := withGPUs(&fakeGPUs{gpus: []engine.GPU{gpuWith(0, 500<<20), gpuWith(1, 500<<20)}})
	cfg := ggufConfig(t, enginetest.Behavior{LoadTime: time.Hour})
	cfg.Devices, cfg.Fit = settings.DevicesAuto(), "require"
	cache := WithCacheDir(t.TempDir())
	var mu sync.Mutex
	taken := map[int]int{}
	refused := 0
	var all sync.WaitGroup
	for i := range 3 {
		each := cfg
		each.ReplicaID, each.Port = fmt.Sprintf("r%d", i), enginetest.FreePort(t, 1)
		p, _ := newLaunch(t, each, gpus, cache)
		all.Go(func() {
			err := p.Start(t.Context())
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, ErrNoMemory):
				refused++
			case err != nil:
				t.Error(err)
			default:
				for _, g := range p.run.rec.Launch.GPUs {
					taken[g.Index]++
				}
			}
		})
	}
	all.Wait()
	if refused != 1 || taken[0] != 1 || taken[1] != 1 {
		t.Errorf("%d refused, GPUs taken: %v", refused, taken)
	}
}

// The estimate is held against what a real llama-server allocates.
func TestRealMemoryEstimate(t *testing.T) {
	t.Parallel()
	buffer := regexp.MustCompile(`CPU\S* (model|KV|compute|output) buffer size = +([0-9.]+) MiB`)
	for _, size := range []ggufgen.Params{{}, {Width: 512, Layers: 8}, {Width: 1024, Layers: 12}} {
		cfg := realConfig(t, size)
		for _, flags := range [][]string{
			{"--ctx-size", "4096"},
			{"--ctx-size", "4096", "--flash-attn", "off"},
			{"--ctx-size", "2048", "--parallel", "4", "--cache-type-k", "q8_0", "--cache-type-v", "q8_0"},
			{"--ubatch-size", "128"},
		} {
			cfg.Flags = slices.Concat(flags, []string{"--verbosity", "4"})
			p, _ := ready(t, cfg)
			plan := p.run.rec.Launch.Memory
			if len(plan) != 1 {
				t.Fatalf("no estimate: %v", plan)
			}
			log, err := os.Open(p.run.rec.Log)
			if err != nil {
				t.Fatal(err)
			}
			var allocated float64
			for lines := bufio.NewScanner(log); lines.Scan(); {
				if m := buffer.FindStringSubmatch(lines.Text()); m != nil {
					mib, _ := strconv.ParseFloat(m[2], 64)
					allocated += mib
				}
			}
			log.Close()
			if err := p.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			estimate := float64(plan[0].Need) / (1 << 20)
			t.Logf("width %d, %d layers, %v: estimated %.1f MiB, allocated %.1f MiB: %+.1f %%",
				size.Width, size.Layers, flags, estimate, allocated, 100*(estimate/allocated-1))
			if allocated == 0 || math.Abs(estimate-allocated) > 0.1*allocated+8 {
				t.Errorf("estimated %.1f MiB, allocated %.1f MiB", estimate, allocated)
			}
		}
	}
}

// What a replica was going to load whose provisioner and engine were killed is not counted for ever.
func TestFitForgetsTheDead(t *testing.T) {
	t.Parallel()
	cfg := ggufConfig(t, enginetest.Behavior{})
	cfg.Fit = "require"
	dead, err := filesOf(cfg.StateDir, "pool-r1")
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Create(); err != nil {
		t.Fatal(err)
	}
	gpu := gpuWith(0, 1<<30)
	rec := record{Schema: state.RecordSchema, LaunchID: proc.NewMark(), Pool: "pool", Replica: "r1", State: StateStarting, Launch: launchRecord{
		Memory: []report.MemoryNeed{{GPU: gpu.UUID, Label: "GPU 0", Need: 1 << 30}},
	}}
	if err := writeRecord(dead, rec); err != nil {
		t.Fatal(err)
	}
	driver := withGPUs(&fakeGPUs{gpus: []engine.GPU{gpu}})
	lock, err := dead.Lock() // as its engine holds it
	if err != nil {
		t.Fatal(err)
	}
	plan, err := planOf(t.Context(), cfg, driver, WithCacheDir(t.TempDir()))
	if err != nil || len(fit.Lacking(plan.Memory)) == 0 {
		t.Errorf("a replica that is loading does not count: %v (%v)", plan.Memory, err)
	}
	lock.Release()
	if plan, err = planOf(t.Context(), cfg, driver, WithCacheDir(t.TempDir())); err != nil || len(fit.Lacking(plan.Memory)) > 0 {
		t.Errorf("a dead replica counts: %v (%v)", plan.Memory, err)
	}
	rec.Launch.Mode = "container"
	if err := writeRecord(dead, rec); err != nil {
		t.Fatal(err)
	}
	if plan, err = planOf(t.Context(), cfg, driver, WithCacheDir(t.TempDir())); err != nil || len(fit.Lacking(plan.Memory)) == 0 {
		t.Errorf("a container that is loading does not count: %v (%v)", plan.Memory, err)
	}
	gone := WithLauncher(&goneLauncher{})
	if plan, err = planOf(t.Context(), cfg, driver, gone, WithCacheDir(t.TempDir())); err != nil || len(fit.Lacking(plan.Memory)) > 0 {
		t.Errorf("a dead container counts: %v (%v)", plan.Memory, err)
	}
}

// goneLauncher knows no launch of its mode that has not ended.
type goneLauncher struct{ stubLauncher }

func (*goneLauncher) Mode() string { return "container" }

func (*goneLauncher) Find(context.Context, launch.Ref) (launch.Instance, error) {
	return goneInstance{}, nil
}

type goneInstance struct{ launch.Instance }

func (goneInstance) Exited() bool { return true }
func (goneInstance) Release()     {}

// What replicas map of one file is there once, whether they are loading or ready; what they copy is there for each.
func TestFitCountsAMappedFileOnce(t *testing.T) {
	t.Parallel()
	cfg := ggufConfig(t, enginetest.Behavior{LoadTime: time.Hour})
	cfg.GPU = engine.GPUNone
	cache := WithCacheDir(t.TempDir())
	copied := filepath.Join(t.TempDir(), "copy.gguf")
	if err := os.WriteFile(copied, mustRead(t, cfg.Model.ID), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(id int, model string, flags ...string) ProvisionConfig {
		c := cfg
		c.ReplicaID, c.Port, c.Model.ID, c.Flags = fmt.Sprintf("r%d", id), enginetest.FreePort(t, 1), model, append(slices.Clone(cfg.Flags), flags...)
		return c
	}
	// taken is how much of the free memory counts as another's.
	taken := func(c ProvisionConfig, beside ...ProvisionConfig) (mib int64, need report.MemoryNeed) {
		t.Helper()
		for _, other := range beside {
			p, _ := started(t, other, cache)
			defer func() {
				if err := p.Stop(bounded(t)); err != nil {
					t.Error(err)
				}
			}()
		}
		o := newOptions([]Option{cache})
		prepared, _, err := o.foresee(t.Context(), c, llamacpp.Engine{})
		if err != nil {
			t.Fatal(err)
		}
		check := o.memoryCheck(t.Context(), c, prepared, &fakeGPUs{})
		check.HostFree = 1 << 40 // what is free changes all the time
		spec, err := describe(llamacpp.Engine{}, c.WithDefaults(), engine.Host{Binary: prepared.Binary, ModelPath: prepared.ModelPath})
		if err != nil {
			t.Fatal(err)
		}
		need = check.Needs(fit.RunOf(spec.GGUF), nil)[0]
		return int64(1<<40-need.Free) >> 20, need
	}
	alone, need := taken(cfg)
	weights, rest := int64(need.Mapped)>>20, int64(need.Need-need.Mapped)>>20
	if alone != 0 || weights < 80 || rest < 10 {
		t.Fatalf("alone: %d MiB are taken, needs %+v", alone, need)
	}
	for name, c := range map[string]struct {
		of     ProvisionConfig
		beside []ProvisionConfig
		want   int64
		has    int64 // what the other engine may have taken already
	}{
		"the same file":      {cfg, []ProvisionConfig{with(1, cfg.Model.ID), with(2, cfg.Model.ID)}, 2 * rest, 0},
		"another file":       {cfg, []ProvisionConfig{with(1, copied), with(2, copied)}, weights + 2*rest, 0},
		"copied by others":   {cfg, []ProvisionConfig{with(1, cfg.Model.ID, "--load-mode", "none")}, weights + rest, 80},
		"copied by this one": {with(0, cfg.Model.ID, "--load-mode", "none"), []ProvisionConfig{with(1, cfg.Model.ID)}, weights + rest, 0},
	} {
		if got, _ := taken(c.of, c.beside...); got < c.want-c.has-2 || got > c.want+2 {
			t.Errorf("%s: %d MiB are taken, want %d", name, got, c.want)
		}
	}
}

// A start stops to wait for its turn when it is stopped itself.
func TestReserveEnds(t *testing.T) {
	t.Parallel()
	cfg := ggufConfig(t, enginetest.Behavior{})
	files, err := filesOf(cfg.StateDir, cfg.fileStem())
	if err != nil {
		t.Fatal(err)
	}
	if err := files.Create(); err != nil {
		t.Fatal(err)
	}
	release, err := reserveMemory(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := reserveMemory(ctx, files); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	release()
	again, err := reserveMemory(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// The engine takes memory, and the choice of "devices: auto" would be another: that is no change.
func TestAutoIsNotOutdated(t *testing.T) {
	t.Parallel()
	cfg := customConfig(t, enginetest.Behavior{})
	cfg.GPU, cfg.Devices = engine.GPUOptional, settings.DevicesAuto()
	cfg.Custom.Command = append(cfg.Custom.Command, "--device", "{devices}")
	driver := &fakeGPUs{gpus: []engine.GPU{gpuWith(0, 20<<30), gpuWith(1, 10<<30)}}
	started(t, cfg, withGPUs(driver))
	engineHasLoaded := &fakeGPUs{gpus: []engine.GPU{gpuWith(0, 5<<30), gpuWith(1, 10<<30)}}
	if differs, err := differencesOf(bounded(t), cfg, withGPUs(engineHasLoaded)); len(differs) > 0 || err != nil {
		t.Errorf("%v (%v)", differs, err)
	}
	cfg.Custom.Command = append(cfg.Custom.Command, "--metrics")
	if differs, err := differencesOf(bounded(t), cfg, withGPUs(engineHasLoaded)); len(differs) == 0 || err != nil {
		t.Errorf("another flag: %v (%v)", differs, err)
	}
}

// What the flags ask for decides how many GPUs an engine gets whose memory cannot be told, and whether a start makes sense.
func TestGPUsThatFlagsAskFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		engine Engine
		flags  []string
		want   int // of five
	}{
		{vllm.Engine{}, nil, 1},
		{vllm.Engine{}, []string{"-tp", "2"}, 2},
		{vllm.Engine{}, []string{"--tensor-parallel-size=2", "-pp", "2"}, 4},
		{vllm.Engine{}, []string{"-tp", "2", "-dp", "2"}, 4},
		{vllm.Engine{}, []string{"-tp", "2", "-dp", "4", "-dpl", "1"}, 2},
		{vllm.Engine{}, []string{"-tp", "2", "-dp", "4", "--data-parallel-rank", "0"}, 2},
		{vllm.Engine{}, []string{"-tp", "2", "-pp", "4", "--distributed-executor-backend", "ray"}, 1}, // on other nodes, too
		{vllm.Engine{}, []string{"-dp", "16", "-dpb", "ray"}, 1},
		{sglang.Engine{}, nil, 1},
		{sglang.Engine{}, []string{"--tp-size", "16", "--use-ray"}, 1},
		{sglang.Engine{}, []string{"--tp-size", "6", "--device", "cpu"}, 1}, // one for each part of the main memory
		{sglang.Engine{}, []string{"--tensor-parallel-size", "2"}, 2},
		{sglang.Engine{}, []string{"--tp-size", "2", "--dp-size", "2"}, 4},
		{sglang.Engine{}, []string{"--tp-size", "2", "--dp-size", "2", "--enable-dp-attention"}, 2},
		{tgi.Engine{}, nil, 1},
		{tgi.Engine{}, []string{"--num-shard", "3"}, 3},
		{tgi.Engine{}, []string{"--num-shard", "9223372036854775807"}, 5},
	} {
		cfg := ProvisionConfig{Engine: c.engine.Name(), Flags: c.flags, Port: 8081, Model: settings.Model{ID: "hf:owner/model"}}
		gpus := []engine.GPU{gpuWith(0, 1), gpuWith(1, 5), gpuWith(2, 4), gpuWith(3, 3), gpuWith(4, 2)}
		got, err := fewest(nil, gpus, func(some []engine.GPU) (engine.LaunchSpec, error) {
			return launchOf(c.engine, cfg.WithDefaults(), engine.Host{GPUs: some})
		})
		if err != nil || len(got) != c.want || c.want < len(gpus) && got[0].Index != 1 {
			t.Errorf("%s %v: %v (%v), want %d", c.engine.Name(), c.flags, got, err, c.want)
		}
	}

	cfg := vllmFake(t, enginetest.Behavior{})
	cfg.GPU, cfg.Flags = engine.GPURequired, []string{"-tp", "4"}
	for _, devices := range []settings.Devices{nil, {"1"}, settings.DevicesAuto()} {
		cfg.Devices = devices
		_, err := planOf(t.Context(), cfg, withGPUs(&fakeGPUs{gpus: []engine.GPU{gpuWith(0, 1), gpuWith(1, 2)}}), WithCacheDir(t.TempDir()))
		var gpu *GPUError
		if !errors.As(err, &gpu) {
			t.Errorf("devices %v: %v", devices, err)
		}
		wantText(t, err, "the flags ask for 4 GPUs", `change "flags" or "devices"`)
	}
}
