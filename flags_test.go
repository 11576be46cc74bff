package provisioner

import (
	"fmt"
	"slices"
	"strings"
	"testing"
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
	hosts := []Host{{}, realHost(f), oldHost(f)}
	f.Fuzz(func(t *testing.T, list string) {
		in := strings.Split(list, "|")
		out := NormalizeFlags("llamacpp", in)
		if again := NormalizeFlags("llamacpp", out); !slices.Equal(again, out) {
			t.Fatalf("%q: once %q, twice %q", in, out, again)
		}
		rest := out
		for _, element := range in {
			switch name, value, joined := strings.Cut(element, "="); {
			case len(rest) == 0:
				t.Fatalf("%q: %q is lost in %q", in, element, out)
			case rest[0] == element, sameFlag(element, rest[0]):
				rest = rest[1:]
			case joined && sameFlag(name, rest[0]) && len(rest) > 1 && rest[1] == value:
				rest = rest[2:]
			default:
				t.Fatalf("%q: %q became %q in %q", in, element, rest[0], out)
			}
		}
		if len(rest) > 0 {
			t.Fatalf("%q: %q was made up", in, rest)
		}
		for _, host := range hosts {
			checkLaunchKeeps(t, in, host)
		}
	})
}

// checkLaunchKeeps checks that a launch either names a problem or passes on each flag of the user, in order.
func checkLaunchKeeps(t *testing.T, in []string, host Host) {
	t.Helper()
	spec, err := llamaCPP{}.Launch(llamaConfig(in...), host)
	if err != nil {
		return
	}
	var want, got []string
	for _, f := range llamaDialect.split(host.Binary.Flags, in) {
		want = append(want, fmt.Sprintf("flags[%d]", f.index))
	}
	for _, f := range spec.Flags {
		if f.Origin == OriginConfig {
			got = append(got, f.Key)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%q: the flags at %q were passed on, want %q", in, got, want)
	}
}

// sameFlag reports whether b is a spelling that a may be rewritten to.
func sameFlag(a, b string) bool {
	return flagShape.MatchString(a) && (a == b || hyphens(a) == b || llamaCanonical[hyphens(a)] == b)
}
