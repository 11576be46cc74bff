package gpu

import (
	"errors"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/gpu/drm"
	"github.com/llama-orch/engine-provisioner/internal/nvidia"
	"github.com/llama-orch/engine-provisioner/internal/onelook"
)

// Node is the Driver of this node: NVIDIA's library, and what the kernel tells of the others. It does not look whether there
// is one; the calls do.
func Node() Driver { return node{together{nvidia.New()}, drm.System(), cgroup.MemoryAvailable} }

// together asks NVIDIA's driver one question for all who ask at the same time: each wakes the GPUs and initializes the library,
// which takes it longer than the answer. One that hangs is then waited for by one thread, and not by a thread each.
type together struct{ *nvidia.Driver }

// There is one such driver on a node, so there are no other looks to be told from these.
var (
	devices   onelook.Look[[]nvidia.Device]
	processes onelook.Look[[]nvidia.Process]
)

// Devices is nvidia.Driver's.
func (t together) Devices() ([]nvidia.Device, error) { return devices.Get(t.Driver.Devices) }

// Processes is nvidia.Driver's.
func (t together) Processes() ([]nvidia.Process, error) { return processes.Get(t.Driver.Processes) }

type node struct {
	nvidia interface {
		Devices() ([]nvidia.Device, error)
		Processes() ([]nvidia.Process, error)
	}
	tree      drm.Tree
	available func() uint64 // main memory in bytes; 0 when it is not known
}

// GPUs fails as NVIDIA's driver does where there is no other GPU. Beside others, a driver that is there and does not work is a
// device with that problem.
func (n node) GPUs() ([]Device, error) {
	found, err := n.nvidia.Devices()
	others := n.tree.GPUs()
	if err != nil && len(others) == 0 {
		return nil, err
	}
	devices := make([]Device, 0, len(found)+len(others))
	if err != nil && !errors.Is(err, ErrNoDriver) {
		devices = append(devices, Device{
			Vendor: engine.VendorNVIDIA, Name: "NVIDIA", MemoryTotal: engine.UnknownBytes, MemoryFree: engine.UnknownBytes, Problem: driverError(err, "").Error(),
		})
	}
	for _, d := range found {
		devices = append(devices, ofNVIDIA(d))
	}
	devices = append(devices, others...)
	for i := range devices {
		if free := n.available(); devices[i].Unified && free > 0 {
			devices[i].MemoryFree = engine.Bytes(free)
		}
	}
	return devices, nil
}

func ofNVIDIA(d nvidia.Device) Device {
	g := Device{
		Vendor: engine.VendorNVIDIA, Index: d.Index, UUID: d.UUID, Name: d.Name, PCIBusID: PCIAddress(d.PCIBusID),
		MemoryTotal: engine.Bytes(d.MemoryTotal), MemoryFree: engine.Bytes(d.MemoryFree), Unified: d.Unified, Problem: d.Problem,
	}
	if d.MemoryTotal == 0 {
		g.MemoryTotal, g.MemoryFree = engine.UnknownBytes, engine.UnknownBytes
	}
	return g
}

// Processes asks NVIDIA's driver and the kernel. A node without a driver of NVIDIA has no processes on its devices.
func (n node) Processes(pids []int) ([]Holding, error) {
	var all []Holding
	for _, h := range n.tree.Held(pids) {
		all = append(all, Holding{PID: h.PID, GPU: h.PCI, Bytes: h.Bytes})
	}
	held, err := n.nvidia.Processes()
	for _, p := range held {
		all = append(all, Holding{PID: p.PID, GPU: p.Device, Bytes: p.Bytes})
	}
	if errors.Is(err, ErrNoDriver) && len(n.tree.GPUs()) > 0 {
		err = nil
	}
	return all, err
}

// PCIAddress writes an address as the kernel does: NVIDIA's library writes "00000000:3B:00.0", and people leave the domain out.
// It is "" when text is none.
func PCIAddress(text string) string {
	text = strings.ToLower(text)
	if strings.Count(text, ":") == 1 {
		text = "0000:" + text
	}
	for strings.HasPrefix(text, "0") && strings.Index(text, ":") > 4 {
		text = text[1:]
	}
	if !drm.IsPCIAddress(text) {
		return ""
	}
	return text
}
