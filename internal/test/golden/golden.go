// Package golden compares what tests get with files that hold what it must be. "go test -update" writes the files anew.
//
// Tests of every package call it, and nothing else: it adds a flag to the program that it is linked into.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Updating reports whether the files are to be written anew, for tests whose files hold more than what one test gets.
func Updating() bool { return *update }

// Check compares got with the file at path.
func Check(t testing.TB, path, got string) {
	t.Helper()
	if *update {
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

// AllUsed reports the files of a pattern that belong to none of the names, which are those of the files without what follows
// the last dot.
func AllUsed(t testing.TB, pattern string, names []string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), filepath.Ext(f)); !slices.Contains(names, name) {
			t.Errorf("%s belongs to no test", f)
		}
	}
}
