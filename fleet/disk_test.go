package fleet

import (
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/hooks"
)

// hangingStep is a disk that hangs at one step of a launch.
type hangingStep struct {
	reached chan struct{} // closed when the launch is there
	goOn    chan struct{} // to be closed
}

// hangAt makes a launch hang at its first step of that name.
func hangAt(t testing.TB, step string) (*hangingStep, provisioner.Option) {
	h := &hangingStep{make(chan struct{}), make(chan struct{})}
	t.Cleanup(h.end)
	return h, withHooks(func(of *hooks.Hooks) {
		of.Failpoint = func(name string) {
			if name == step && !closed(h.reached) {
				close(h.reached)
				<-h.goOn
			}
		}
	})
}

func (h *hangingStep) end() {
	if !closed(h.goOn) {
		close(h.goOn)
	}
}

// Nor does a manager's status, which metrics and what systemd is told come from.
func TestSupervisorStatusDoesNotWaitForTheDisk(t *testing.T) {
	t.Parallel()
	disk, hang := hangAt(t, "before_publish")
	s, _ := supervised(t, []provisioner.ProvisionConfig{fakeConfig(t, enginetest.Behavior{})}, hang)
	awaitClosed(t, "the way to the handoff", disk.reached)
	returns(t, "Status", func() {
		if all := s.Status(); len(all) != 1 || all[0].State != provisioner.StateStarting {
			t.Errorf("%+v", all)
		}
	})
	disk.end()
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Error(err)
	}
}
