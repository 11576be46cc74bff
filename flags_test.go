package provisioner

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
)

func ExampleNormalizeFlags() {
	fmt.Printf("%q\n", NormalizeFlags("llamacpp", []string{"-ngl=-1", "-np", "4", "--ctx_size", "4096", "--temp", "-.5"}))
	// Output: ["--n-gpu-layers" "-1" "--parallel" "4" "--ctx-size" "4096" "--temp" "-.5"]
}

func TestNormalizeFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"--gpu-layers|20", "--n-gpu-layers|20"},
		{"--gpu-layers=20", "--n-gpu-layers|20"},
		{"--ngl|20", "--n-gpu-layers|20"},
		{"--ngl=20", "--n-gpu-layers|20"},
		{"-ngl|20", "--n-gpu-layers|20"},
		{"-ngl=-1", "--n-gpu-layers|-1"},
		{"--n_gpu_layers=all", "--n-gpu-layers|all"},
		{"-nocb|-cb", "--no-cont-batching|--cont-batching"},
		{"--override-tensor=blk=CPU", "--override-tensor|blk=CPU"},
		{"--alias=", "--alias|"},
		{"--alias|-ngl", "--alias|-ngl"},
		{"--alias|--gpu-layers=3", "--alias|--gpu-layers=3"},
		{"-fa", "-fa"},
		{"-fa|-ngl|3", "-fa|--n-gpu-layers|3"},
		{"-fa=on", "-fa|on"},
		{"-fa=-ngl", "-fa=-ngl"},
		{"--metrics=true", "--metrics=true"},
		{"--control-vector-layer-range=1 2", "--control-vector-layer-range=1 2"},
		{"--unknown=1|x y| -ngl", "--unknown=1|x y| -ngl"},
		{"--draft-max=3", "--draft-max|3"},
		{"-n|-1|stray|-2", "-n|-1|stray|-2"},
		{"--parallel", "--parallel"},
	} {
		var in []string
		if tt.in != "" {
			in = strings.Split(tt.in, "|")
		}
		kept := slices.Clone(in)
		if got := strings.Join(NormalizeFlags("llamacpp", in), "|"); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
		if !slices.Equal(in, kept) {
			t.Errorf("%q: the argument was changed to %q", tt.in, in)
		}
	}
}

func TestNormalizeFlagsOfEngines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ engine, in, want string }{
		{"vllm", "--max_model_len=4k|-tp|2", "--max-model-len=4k|-tp|2"},
		{"vllm", "--gpu-mem|0.5|--gpu-mem=0.5", "--gpu-memory-utilization|0.5|--gpu-memory-utilization=0.5"},
		{"vllm", "--compilation_config.cudagraph_mode|NONE", "--compilation-config.cudagraph_mode|NONE"},
		{"vllm", "--served_model_name|a_b|c_d|--enable_lora", "--served-model-name|a_b|c_d|--enable-lora"},
		{"vllm", "-cc.mode|3|-cc|{}", "--compilation-config.mode|3|-cc|{}"},
		{"vllm", "-O3|-O=3|-O|3|-O.mode=3", "-O3|-O=3|-O|3|-O.mode=3"},
		{"vllm", "--seed=-1|--seed|-1", "--seed=-1|--seed|-1"},
		{"vllm", "--max|1|--no_such_flag|x", "--max|1|--no_such_flag|x"},
		{"sglang", "--tensor-parallel-size=2|--context_length|4096", "--tp-size=2|--context-length|4096"},
		{"sglang", "--lora_paths|a=/x|b=/y", "--lora-paths|a=/x|b=/y"},
		{"tgi", "--num_shard|2|-p8080|--max-tot|1", "--num-shard|2|-p8080|--max-tot|1"},
	} {
		if got := strings.Join(NormalizeFlags(tt.engine, strings.Split(tt.in, "|")), "|"); got != tt.want {
			t.Errorf("%s: %q: got %q, want %q", tt.engine, tt.in, got, tt.want)
		}
	}
}

func TestNormalizeFlagsOfOtherEngine(t *testing.T) {
	t.Parallel()
	in := []string{"-ngl=3", "--x"}
	got := NormalizeFlags("other", in)
	if !slices.Equal(got, in) {
		t.Errorf("got %q", got)
	}
	got[0] = "changed"
	if in[0] != "-ngl=3" {
		t.Error("the result shares its memory with the argument")
	}
}

// FuzzNormalizeFlags checks the promises of NormalizeFlags: it is idempotent, and what it gives back is the elements of
// the user in their order, apart from the documented rewriting of single elements.
func FuzzNormalizeFlags(f *testing.F) {
	for _, s := range []string{
		"--parallel|1", "-ngl=-1|--ngl|3", "-fa=-ngl", "-fa|--port|1", "--alias|-ngl=3", "x|-1|--|-", "--=|-=|=",
		"--metrics=1", "--no_cont_batching|-cb", "--control-vector-layer-range|1|2", "--unknown|a|-b|c", "--draft_max=1|-n",
	} {
		f.Add(s)
	}
	f.Add("--served-model-name|a|b|--gpu-mem=1|-O3|--cc.x+|y|-p8080|--max|--num_shard|-1|--tensor-parallel-size|2")
	engines := map[Engine][]engine.Host{
		llamacpp.Engine{}: {{}, realHost(f), oldHost(f)}, vllm.Engine{}: {{}, vllmHost(f)}, sglang.Engine{}: {{}, sglangHost(f)}, tgi.Engine{}: {{}, tgiHost(f)},
	}
	f.Fuzz(func(t *testing.T, list string) {
		in := strings.Split(list, "|")
		for e, hosts := range engines {
			checkNormalized(t, e, in)
			for _, host := range hosts {
				checkLaunchKeeps(t, e, in, host)
			}
		}
	})
}

// checkNormalized checks that a second time changes nothing, and that all that is given back comes from the list.
func checkNormalized(t *testing.T, e Engine, in []string) {
	t.Helper()
	d := testDialect(e.Name())
	out := NormalizeFlags(e.Name(), in)
	if again := NormalizeFlags(e.Name(), out); !slices.Equal(again, out) {
		t.Fatalf("%s: %q: once %q, twice %q", e.Name(), in, out, again)
	}
	rest := out
	for _, element := range in {
		switch name, value, joined := strings.Cut(element, "="); {
		case len(rest) == 0:
			t.Fatalf("%q: %q is lost in %q", in, element, out)
		case rest[0] == element, sameFlag(d, element, rest[0]):
			rest = rest[1:]
		case joined && !d.Joined && sameFlag(d, name, rest[0]) && len(rest) > 1 && rest[1] == value:
			rest = rest[2:]
		case joined && d.Joined && strings.HasSuffix(rest[0], "="+value) && sameFlag(d, name, strings.TrimSuffix(rest[0], "="+value)):
			rest = rest[1:]
		default:
			t.Fatalf("%s: %q: %q became %q in %q", e.Name(), in, element, rest[0], out)
		}
	}
	if len(rest) > 0 {
		t.Fatalf("%q: %q was made up", in, rest)
	}
}

// checkLaunchKeeps checks that a launch either names a problem or passes on each flag of the user, in order.
func checkLaunchKeeps(t *testing.T, e Engine, in []string, host engine.Host) {
	t.Helper()
	spec, err := launchOf(e, llamaConfig(in...), host)
	if err != nil {
		return
	}
	var want, got []string
	for _, f := range testDialect(e.Name()).Split(host.Binary.Flags, in) {
		want = append(want, fmt.Sprintf("flags[%d]", f.Index))
	}
	for _, f := range spec.Flags {
		if f.Origin == engine.OriginConfig {
			got = append(got, f.Key)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%q: the flags at %q were passed on, want %q", in, got, want)
	}
}

// sameFlag reports whether b is a spelling that a may be rewritten to.
func sameFlag(d *flagline.Dialect, a, b string) bool {
	_, full, _ := d.LookUp(engine.FlagSet{}, a)
	return strings.HasPrefix(a, "-") && (a == b || full == b || d.Canonical[full] == b)
}
