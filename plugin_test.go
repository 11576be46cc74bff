package provisioner_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A plug-in compiles the contract, and with flags the machinery for them: not the library that runs it.
func TestPluginsCompileLittle(t *testing.T) {
	t.Parallel()
	const module = "github.com/llama-orch/engine-provisioner/"
	for _, c := range []struct {
		dir, path string
		ours      []string // but for the package itself
	}{
		{"examples/customengine", "./files", []string{"engine"}},
		{".", "./engine", nil},
		{".", "./engine/flagline", []string{"engine", "internal/nearest"}}, // 90 lines that find a misspelling
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-C", c.dir, "-deps", c.path).Output()
		if err != nil {
			t.Fatalf("%s: %v", c.path, err)
		}
		var ours, others []string
		all := strings.Fields(string(out))
		for _, path := range all[:len(all)-1] {
			if ofOurs, ok := strings.CutPrefix(path, module); ok {
				ours = append(ours, ofOurs)
			} else if strings.Contains(path, ".") && !strings.HasPrefix(path, "vendor/") { // the standard library's own
				others = append(others, path)
			}
		}
		slices.Sort(ours)
		if !slices.Equal(ours, c.ours) || len(others) > 0 {
			t.Errorf("%s compiles %q and %q, want %q alone", all[len(all)-1], ours, others, c.ours)
		}
	}
}
