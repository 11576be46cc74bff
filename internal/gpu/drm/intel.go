package drm

import (
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/engine"
)

// integratedAddress is where every integrated GPU of Intel is.
const integratedAddress = "0000:00:02.0"

// intel lists the GPUs in PCI bus order. How much of their memory is used takes privileges to ask, so that what is free is
// unknown; how much there is, xe tells and i915 does not.
func listIntel(cards []card, denied func(string) string) []engine.GPU {
	var gpus []engine.GPU
	for _, c := range cards {
		g := engine.GPU{
			Vendor: engine.VendorIntel, Index: len(gpus), Name: c.name("Intel GPU"), PCIBusID: c.pci, Render: filepath.Join("/dev/dri", c.render),
			MemoryTotal: engine.UnknownBytes, MemoryFree: engine.UnknownBytes, Problem: denied(filepath.Join("dri", c.render)),
		}
		tiles, _ := filepath.Glob(filepath.Join(c.dir, "tile*/physical_vram_size_bytes"))
		for _, tile := range tiles {
			if n := amount(text(tile)); n > 0 {
				g.MemoryTotal = max(g.MemoryTotal, 0) + n
			}
		}
		g.Unified = !g.MemoryTotal.Known() && (c.pci == integratedAddress || c.driver == "xe")
		gpus = append(gpus, g)
	}
	return gpus
}
