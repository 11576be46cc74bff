package engine

import (
	"cmp"
	"encoding/json"
)

// GPU is one graphics processor, or one partition of it (MIG of NVIDIA, compute partitions of AMD), as this node tells of it.
type GPU struct {
	// Vendor is who made it; "" for a device of which the engine's executable alone tells.
	Vendor Vendor `json:"vendor,omitempty"`
	// Index counts among its vendor's: in PCI bus order, as nvidia-smi counts, or as ROCm counts those of AMD. A MIG partition
	// has its GPU's.
	Index int `json:"index"`
	// UUID is "GPU-…" or "MIG-…"; "" where the device does not answer, or has none, as those of Intel.
	UUID string `json:"uuid"`
	Name string `json:"name"`
	// PCIBusID is its address, such as "0000:3b:00.0"; "" where it is not known.
	PCIBusID    string `json:"pci_bus_id"`
	MemoryTotal Bytes  `json:"memory_total"`
	MemoryFree  Bytes  `json:"memory_free"`
	// Unified says that it works in main memory, so that what the kernel has available is what it has.
	Unified bool `json:"unified,omitempty"`
	// Render is the device file through which it is used, such as "/dev/dri/renderD128"; "" where there is none, or where the
	// driver has files of its own.
	Render string `json:"render,omitempty"`
	// Backends are the names by which the engine's executable knows it, such as "Vulkan0"; nil where they are not known, or
	// not needed to confine an engine to it.
	Backends []string `json:"backends,omitempty"`
	// Problem is why it cannot be used; "" when it can.
	Problem string `json:"problem,omitempty"`
	// ComputeProblem is why its vendor's runtime for computing cannot use it, while a graphics API such as Vulkan can; "" when
	// it can.
	ComputeProblem string `json:"compute_problem,omitempty"`
}

// ID is what names the GPU for ever: its UUID, or else its PCI address, or else its first name among Backends.
func (g GPU) ID() string {
	if len(g.Backends) > 0 {
		return cmp.Or(g.UUID, g.PCIBusID, g.Backends[0])
	}
	return cmp.Or(g.UUID, g.PCIBusID)
}

// Vendor is a maker of GPUs.
type Vendor string

// The vendors whose GPUs are found without the engine's help.
const (
	VendorNVIDIA Vendor = "nvidia"
	VendorAMD    Vendor = "amd"
	VendorIntel  Vendor = "intel"
)

// Bytes is an amount of memory that may be unknown, which is null in JSON and never 0.
type Bytes int64

// UnknownBytes is the amount that nobody tells.
const UnknownBytes Bytes = -1

// Known reports whether the amount is known.
func (b Bytes) Known() bool { return b >= 0 }

// MarshalJSON writes the number, or null.
func (b Bytes) MarshalJSON() ([]byte, error) {
	if !b.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(int64(b))
}

// UnmarshalJSON reads what MarshalJSON has written.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*b = UnknownBytes
		return nil
	}
	return json.Unmarshal(data, (*int64)(b))
}
