package provisioner

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/test/golden"
)

// TestSchemas runs the tests of the schemas, which are a module of their own for the libraries that they need: the committed
// schemas are those of the types, and that of a pools file takes what the loader takes. With -update they are written anew.
func TestSchemas(t *testing.T) {
	t.Parallel()
	// What the other module reads is read here as well: otherwise Go would take an old result of this test for the new one.
	for _, pattern := range []string{
		"config.schema.json", "*.go", "settings/*.go", "engine/*.go", "internal/config/*.go", "internal/values/*.go", "fleet/*.go", "web/*", "internal/test/schema/*.*",
	} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, name := range names {
			if _, err := os.ReadFile(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	args := []string{"-C", "internal/test/schema", "test", "-count=1", "./..."}
	if golden.Updating() {
		args = append(args, "-update")
	}
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
