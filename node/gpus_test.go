package node

import (
	"errors"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// TestGPUsHere asks the node's own driver: it must answer in one of two ways.
func TestGPUsHere(t *testing.T) {
	t.Parallel()
	gpus, err := GPUs(t.Context())
	if err == nil {
		for _, g := range gpus {
			t.Logf("%+v", g)
		}
		return
	}
	if e, ok := errors.AsType[*provisioner.GPUError](err); !ok {
		t.Errorf("%T is no *GPUError: %v", err, err)
	} else if errors.Is(err, provisioner.ErrNoDriver) && e.Advice == "" {
		t.Errorf("no advice: %v", err)
	}
}
