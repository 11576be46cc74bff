// Package pod is what the command needs as the first process of a container: it reaps what loses its parents, leaves the cause of a
// failure where Kubernetes looks for it, and copies its executable to where an image without one finds it.
//
// The command alone calls it. It knows nothing of replicas.
package pod

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
)

// Install copies this executable into dir, where it replaces an earlier one, even one that runs, and returns its path.
func Install(dir string) (path string, err error) {
	from, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find this executable: %w", err)
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return "", fmt.Errorf("cannot read this executable: %w", err)
	}
	path = filepath.Join(dir, "engine-provisioner")
	if err := atomicfile.ReplaceFor(path, data, 0o755, -1); err != nil {
		return "", fmt.Errorf("cannot install: %w; name a folder that is there and that this user may write to", err)
	}
	return path, nil
}
