package provisioner

import (
	"fmt"
	"slices"
	"testing"
)

func ExampleNormalizeFlags() {
	fmt.Printf("%q\n", NormalizeFlags("llamacpp", []string{"-ngl=-1", "-np", "4", "--ctx_size", "4096", "--temp", "-.5"}))
	// Output: ["--n-gpu-layers" "-1" "--parallel" "4" "--ctx-size" "4096" "--temp" "-.5"]
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
