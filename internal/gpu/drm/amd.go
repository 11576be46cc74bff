package drm

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// topology is where the kernel's part of ROCm lists what can compute.
const topology = "class/kfd/kfd/topology/nodes"

// node is a GPU as the kernel's part of ROCm tells of it.
type node struct {
	number int
	gpuID  string // by which it counts the memory of processes
	render string
	pci    string
	uuid   string
	target string // such as "gfx1100"
	vram   engine.Bytes
}

// nodes are in the order of ROCm. One whose properties may not be read belongs to another container: the group of devices of
// ours lacks it.
func (t Tree) nodes() []node {
	files, _ := filepath.Glob(filepath.Join(t.Sys, topology, "*/properties"))
	var all []node
	for _, file := range files {
		props := properties(file)
		if props["vendor_id"] != 0x1002 || props["drm_render_minor"] == 0 {
			continue // a processor
		}
		dir := filepath.Dir(file)
		n := node{
			gpuID:  text(filepath.Join(dir, "gpu_id")),
			render: fmt.Sprintf("renderD%d", props["drm_render_minor"]),
			// location_id is the bus, device and function of PCI (kfd_topology.c).
			pci: fmt.Sprintf("%04x:%02x:%02x.%x", props["domain"], props["location_id"]>>8&0xff, props["location_id"]>>3&0x1f, props["location_id"]&7),
		}
		n.number, _ = strconv.Atoi(filepath.Base(dir))
		if id := props["unique_id"]; id != 0 {
			n.uuid = fmt.Sprintf("GPU-%016X", id)
		}
		if v := props["gfx_target_version"]; v != 0 { // 90010 is gfx90a: minor version and step in hexadecimal
			n.target = fmt.Sprintf("gfx%d%x%x", v/10000, v/100%100, v%100)
		}
		n.vram = engine.UnknownBytes
		banks, _ := filepath.Glob(filepath.Join(dir, "mem_banks/*/properties"))
		for _, bank := range banks {
			// 1 and 2 are the kinds of heaps of a GPU's own memory (HSA_HEAPTYPE_FRAME_BUFFER_…).
			if b := properties(bank); b["heap_type"] == 1 || b["heap_type"] == 2 {
				n.vram = max(n.vram, 0) + engine.Bytes(min(b["size_in_bytes"], 1<<50))
			}
		}
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b node) int { return cmp.Compare(a.number, b.number) })
	return all
}

// properties reads lines of a key and a number.
func properties(path string) map[string]uint64 {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // what was only read loses nothing
	props := map[string]uint64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64); err == nil {
			props[key] = n
		}
	}
	return props
}

// amd lists what ROCm knows in its order, and then what it does not know.
func (t Tree) amd(cards []card, denied func(string) string) []engine.GPU {
	var gpus []engine.GPU
	var kfd string
	nodes := t.nodes()
	if len(cards) > 0 {
		kfd = denied("kfd")
	}
	taken := map[string]bool{}
	for _, n := range nodes {
		c := card{render: n.render, pci: n.pci}
		if i := slices.IndexFunc(cards, func(c card) bool { return c.render == n.render }); i >= 0 {
			c = cards[i]
		} else if i := slices.IndexFunc(cards, func(c card) bool { return c.pci == n.pci }); i >= 0 {
			c.dir = cards[i].dir // of a partition, whose render node is none of PCI
		}
		taken[n.render] = true
		g := amdCard(c, len(gpus), n.target, denied)
		g.UUID, g.PCIBusID, g.ComputeProblem = n.uuid, n.pci, kfd
		if slices.ContainsFunc(nodes, func(other node) bool { return other.number != n.number && other.pci == n.pci }) {
			g.Name += ", a partition"
			g.MemoryTotal, g.MemoryFree = n.vram, engine.UnknownBytes // the numbers of the card are of all its partitions
		}
		gpus = append(gpus, g)
	}
	for _, c := range cards {
		if taken[c.render] {
			continue
		}
		g := amdCard(c, len(gpus), "", denied)
		g.ComputeProblem = cmp.Or(kfd, "the kernel does not offer it to ROCm (it is not in /sys/class/kfd)")
		gpus = append(gpus, g)
	}
	for i, g := range gpus { // partitions may share an id, which then names none of them
		if slices.ContainsFunc(gpus[i+1:], func(other engine.GPU) bool { return other.UUID == g.UUID }) {
			for k := range gpus {
				if gpus[k].UUID == g.UUID {
					gpus[k].UUID = ""
				}
			}
		}
	}
	return gpus
}

func amdCard(c card, index int, target string, denied func(string) string) engine.GPU {
	g := engine.GPU{
		Vendor: engine.VendorAMD, Index: index, Name: c.text("product_name"), PCIBusID: c.pci, Render: filepath.Join("/dev/dri", c.render),
		MemoryTotal: c.bytes("mem_info_vram_total"), MemoryFree: engine.UnknownBytes, Problem: denied(filepath.Join("dri", c.render)),
	}
	if id, err := strconv.ParseUint(c.text("unique_id"), 16, 64); err == nil && id != 0 {
		g.UUID = fmt.Sprintf("GPU-%016X", id)
	}
	if g.Name == "" {
		g.Name = c.name(strings.TrimSpace("AMD GPU " + target))
	}
	if c.integrated() {
		// What ROCm and Vulkan take for its memory differs from version to version (llama.cpp #18159, #19818).
		g.Unified, g.MemoryTotal = true, engine.UnknownBytes
		return g
	}
	if used := c.bytes("mem_info_vram_used"); g.MemoryTotal.Known() && used.Known() {
		g.MemoryFree = max(0, g.MemoryTotal-used)
	}
	return g
}

// integrated tells an APU by the rule that Ollama uses (discover/amd.go): nothing tells of memory chips or a board, little
// memory of its own, and much of the system's.
func (c card) integrated() bool {
	vram, gtt := c.bytes("mem_info_vram_total"), c.bytes("mem_info_gtt_total")
	return c.text("mem_info_vram_vendor") == "" && c.text("board_info") == "" && vram.Known() && vram <= 4<<30 && gtt >= 8<<30 && gtt >= 4*vram
}
