// Package host puts on this host what tests need: programs, and Python packages as pip leaves them. It also says when a host
// cannot run a test.
//
// Tests of every package call it, and nothing else. What it writes is in the folders that it is given.
package host

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Skip leaves a test out where it cannot run. On the CI machine everything can run, so there it is a failure.
func Skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal("cannot run, and CI must: " + why)
	}
	t.Skip(why)
}

// WithLlamaBuilds runs a test with each of the older builds of llama-server, whose number is name: those of
// ENGINE_PROVISIONER_LLAMA_BUILDS, which "make test" sets, such as "b10068=/path/to/llama-server:b10434=...".
func WithLlamaBuilds(t *testing.T, test func(t *testing.T, name, server string)) {
	t.Helper()
	builds := filepath.SplitList(os.Getenv("ENGINE_PROVISIONER_LLAMA_BUILDS"))
	if len(builds) == 0 {
		Skip(t, "needs older builds of llama-server: set ENGINE_PROVISIONER_LLAMA_BUILDS, or run make test")
	}
	for _, build := range builds {
		name, server, ok := strings.Cut(build, "=")
		if !ok {
			t.Fatalf("%q in ENGINE_PROVISIONER_LLAMA_BUILDS is no NAME=PATH", build)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, name, server)
		})
	}
}

// Program writes an executable, and the folders above it. No other test forks meanwhile: its child would still have the file
// open for writing, and to execute it would fail with "text file busy" (golang/go#22315).
func Program(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// Distribution writes the metadata that pip leaves of a package below the folder of a virtual environment.
func Distribution(t testing.TB, prefix, name, version string) {
	t.Helper()
	dir := filepath.Join(prefix, "lib/python3.12/site-packages", name+"-"+version+".dist-info")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text := "Metadata-Version: 2.4\nName: " + name + "\nVersion: " + version + "\nRequires-Dist: torch\n\n# It\n\nVersion: 9\n"
	if err := os.WriteFile(filepath.Join(dir, "METADATA"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
