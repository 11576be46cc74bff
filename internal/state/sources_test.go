package state

import (
	"fmt"
	"slices"
	"testing"
)

func TestSources(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if got, err := Sources(dir); err != nil || got != nil {
		t.Fatalf("%q, %v", got, err)
	}
	for _, file := range []string{"/a", "/b", "/a", "/a"} {
		if err := AddSource(dir, file); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Sources(dir); err != nil || !slices.Equal(got, []string{"/a", "/b"}) {
		t.Fatalf("%q, %v", got, err)
	}
	for i := range 2 * maxSources {
		if err := AddSource(dir, fmt.Sprint("/", i)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Sources(dir); err != nil || len(got) != maxSources || got[0] != fmt.Sprint("/", 2*maxSources-1) {
		t.Fatalf("%q, %v", got, err)
	}
}
