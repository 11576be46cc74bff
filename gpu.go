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

// gpuDriver is what the provisioner asks of the GPU's driver; a test puts its own in place.
type gpuDriver interface {
	// GPUs lists the devices in PCI bus order, MIG partitions among them.
	GPUs() ([]GPU, error)
	// ProcessMemory is the GPU memory in bytes that each process holds over all devices. Inside a container the pids
	// may be the host's.
	ProcessMemory() (map[int]uint64, error)
}

// DetectGPUs lists the node's NVIDIA GPUs in PCI bus order. A node without a driver or a device is a *GPUError.
func DetectGPUs(ctx context.Context) ([]GPU, error) {
	return nil, &GPUError{Err: ErrUnsupported}
}
