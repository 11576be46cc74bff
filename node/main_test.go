package node

import (
	"flag"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

func TestMain(m *testing.M) {
	enginetest.Main()
	goleak.VerifyTestMain(m)
}

// writeProgram writes an executable, while no other test starts a process that would hold the file open.
func writeProgram(t testing.TB, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// skip is for tests that a developer's machine may be unable to run: where CI is set, that is a failure.
func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal("cannot run, and CI must: " + why)
	}
	t.Skip(why)
}

var updateGolden = flag.Bool("update", false, "rewrite golden files")

// golden compares a text with the file that holds what it must be.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *updateGolden {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update to write it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}
