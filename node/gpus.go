package node

import (
	"context"
	"errors"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
)

// GPUs lists the node's GPUs: those of NVIDIA in PCI bus order, each followed by its MIG partitions, then those of AMD
// and of Intel. A GPU that is in a bad state, or that this user may not use, is listed with its Problem. A node without a
// driver or a device is a *provisioner.GPUError that wraps [provisioner.ErrNoDriver] or [provisioner.ErrNoGPU].
//
// A driver that hangs cannot be interrupted: when ctx ends first, its error comes back and the question is left behind.
func GPUs(ctx context.Context) ([]engine.GPU, error) {
	devices, err := gpu.List(ctx, gpu.Node())
	if e, ok := errors.AsType[*gpu.Error](err); ok {
		return devices, (*provisioner.GPUError)(e)
	}
	return devices, err
}
