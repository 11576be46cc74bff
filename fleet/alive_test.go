package fleet

import (
	"errors"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
)

// The loop is seen to stand still, whatever replica holds it up, and to go on.
func TestAlive(t *testing.T) {
	t.Parallel()
	f, _ := superviseReady(t, briskly(fakeConfig(t, enginetest.Behavior{})))
	if err := f.Alive(); err != nil {
		t.Errorf("a new fleet: %v", err)
	}
	b := newInbox(f, Options{}) // the fleet's own looks once a second
	b.period = 2 * time.Millisecond
	b.start()
	eventually(t, "the loop goes round", func() bool { return b.pulse.Err(b.period) == nil })
	first := b.pulse.Last()
	eventually(t, "and on", func() bool { return b.pulse.Last() != first })
	r := f.all()[0]
	r.mu.Lock()
	eventually(t, "a replica that holds it up is seen", func() bool { return b.pulse.Err(b.period) != nil })
	if err := b.pulse.Err(b.period); !strings.Contains(err.Error(), "has not come round for") {
		t.Error(err)
	}
	r.mu.Unlock()
	eventually(t, "it goes on", func() bool { return b.pulse.Err(b.period) == nil })
	b.leave()
	b.work.Wait()

	if err := f.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := f.Alive(); !errors.Is(err, provisioner.ErrStopped) {
		t.Errorf("after its end: %v", err)
	}
}
