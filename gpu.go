package provisioner

import "context"

// GPU is one graphics processor, or one MIG partition of it, as the driver reports it.
type GPU struct {
	Index       int    `json:"index"` // in PCI bus order, as CUDA counts with CUDA_DEVICE_ORDER=PCI_BUS_ID
	UUID        string `json:"uuid"`  // "GPU-…" or "MIG-…"
	Name        string `json:"name"`
	PCIBusID    string `json:"pci_bus_id"`
	MemoryTotal uint64 `json:"memory_total"`      // bytes
	MemoryFree  uint64 `json:"memory_free"`       // bytes
	Problem     string `json:"problem,omitempty"` // why it cannot be used; "" when it can
}

// DetectGPUs lists the node's NVIDIA GPUs in PCI bus order. A node without a driver or a device is a *GPUError.
func DetectGPUs(ctx context.Context) ([]GPU, error) {
	return nil, &GPUError{Err: ErrUnsupported}
}
