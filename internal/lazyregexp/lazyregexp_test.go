package lazyregexp_test

import (
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// A wrong expression is seen by the tests of its package, even if none of them uses it.
func TestWrongExpression(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a wrong expression passes")
		}
	}()
	lazyregexp.New(`(`)
}

func TestExpression(t *testing.T) {
	t.Parallel()
	r := lazyregexp.New(`([a-z]+)-(\d+)`)
	if got := r.FindStringSubmatch("replica r-17 of a pool"); len(got) != 3 || got[1] != "r" || got[2] != "17" {
		t.Errorf("found %q", got)
	}
	if got := r.ReplaceAllString("r-17", "$2"); got != "17" {
		t.Errorf("replaced: %q", got)
	}
}
