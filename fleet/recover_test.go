package fleet

import (
	"context"
	"errors"
	"os"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
)

// abandoned is a launch whose provisioner is gone, as after a SIGKILL: nothing was let go or cleaned up. reap must be
// called by whoever ends the engine, which is this process's child.
func abandoned(t *testing.T, cfg provisioner.ProvisionConfig) *provisioner.EngineProvisioner {
	t.Helper()
	p, _ := ready(t, cfg)
	p.Release()
	child, err := os.FindProcess(p.Status().PID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Kill(); _, _ = child.Wait() })
	return p
}

// A recovery that is called off says nothing about the engines, and leaves them as they are.
func TestRecoverCalledOff(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	was := abandoned(t, cfg)
	ctx, cancel := context.WithCancel(bounded(t))
	cancel()
	if adopted, _, err := provisioner.Recover(ctx, cfg.StateDir); !errors.Is(err, context.Canceled) || len(adopted) > 0 {
		t.Errorf("Recover: %v, %v", adopted, err)
	}
	if _, err := opened(ctx, []provisioner.ProvisionConfig{cfg}); !errors.Is(err, context.Canceled) {
		t.Errorf("Supervise: %v", err)
	}
	s, _ := superviseReady(t, cfg)
	if now := s.Status()[0]; now.PID != was.Status().PID {
		t.Errorf("the engine was replaced: %+v", now)
	}
}
