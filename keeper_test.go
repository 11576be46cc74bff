package provisioner

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/access"
)

// What is in the way of a handoff is told once, not each second, and once more when it comes back.
func TestHandoffThatCannotBeWrittenAgain(t *testing.T) {
	t.Parallel()
	p, j := started(t, fakeConfig(t, enginetest.Behavior{}))
	if _, err := p.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	folder := p.run.files.Handoffs()
	for round := 1; round <= 2; round++ {
		p.keeping.Lock() // a look of the launch's own between the two would make the folder again
		err := errors.Join(os.RemoveAll(folder), os.WriteFile(folder, nil, 0o600))
		p.keeping.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			p.look()
		}
		if told := strings.Count(j.notes(), "cannot write the handoff again"); told != round {
			t.Errorf("told %d times in round %d: %s", told, round, j.notes())
		}
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
		if p.look(); !access.Exists(p.run.files.Handoff()) {
			t.Error("it was not written again")
		}
	}
}
