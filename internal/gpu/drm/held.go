package drm

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Held is how much memory of a GPU a process holds.
type Held struct {
	PID   int
	PCI   string // the address of the GPU
	Bytes uint64
}

// Held tells what the processes hold, as far as this user may see it. Processes are looked for in the PID namespace of Proc;
// what the kernel's part of ROCm counts stands under the ids of the first one.
//
// A process counts by what its open files say (https://docs.kernel.org/gpu/drm-usage-stats.html) and by what ROCm counts for
// it: the larger of the two, since it is not certain that the one is in the other.
func (t Tree) Held(pids []int) []Held {
	nodes, unified := t.nodes(), map[string]bool{}
	for _, g := range t.list(func(string) string { return "" }) {
		unified[g.PCIBusID] = g.Unified
	}
	var all []Held
	for _, pid := range pids {
		byGPU := t.clients(pid, unified)
		for _, n := range nodes {
			file := filepath.Join(t.Sys, "class/kfd/kfd/proc", strconv.Itoa(pid), "vram_"+n.gpuID)
			if used := amount(text(file)); used > 0 {
				byGPU[n.pci] = max(byGPU[n.pci], uint64(used))
			}
		}
		for pci, used := range byGPU {
			if used > 0 {
				all = append(all, Held{PID: pid, PCI: pci, Bytes: used})
			}
		}
	}
	return all
}

// clients is what the open files of a process say, by the addresses of GPUs. Files that were duplicated, as by a fork, are
// one client of the driver and say the same.
func (t Tree) clients(pid int, unified map[string]bool) map[string]uint64 {
	dir := filepath.Join(t.Proc, strconv.Itoa(pid))
	entries, _ := os.ReadDir(filepath.Join(dir, "fd"))
	seen, byGPU := map[string]bool{}, map[string]uint64{}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, "fd", e.Name()))
		if err != nil || !strings.HasPrefix(target, "/dev/dri/") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, "fdinfo", e.Name()))
		if err != nil {
			continue
		}
		c, ok := parseClient(data)
		if id := c.pci + " " + c.id; ok && (c.id == "" || !seen[id]) {
			seen[id] = true
			byGPU[c.pci] += c.own
			if unified[c.pci] {
				byGPU[c.pci] += c.system
			}
		}
	}
	return byGPU
}

// client is what one open file says.
type client struct {
	pci, id     string
	own, system uint64 // memory of the GPU, and main memory that it works in
}

// parseClient reads a file of /proc/PID/fdinfo; false when it is of no GPU.
func parseClient(data []byte) (c client, ok bool) {
	used, total := map[string]uint64{}, map[string]uint64{} // by region
	for line := range bytes.Lines(data) {
		key, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "drm-pdev":
			c.pci = value
		case "drm-client-id":
			c.id = value
		case "vram mem": // amdgpu before 5.19
			used["vram"] = size(value)
		}
		if kind, region, ok := strings.Cut(strings.TrimPrefix(key, "drm-"), "-"); ok {
			switch kind {
			case "memory", "resident": // the first is the old name of the second
				used[region] = max(used[region], size(value))
			case "total": // with what was swapped out
				total[region] = size(value)
			}
		}
	}
	for region, n := range total {
		if _, ok := used[region]; !ok {
			used[region] = n
		}
	}
	for region, n := range used {
		if strings.HasPrefix(region, "vram") || strings.HasPrefix(region, "local") {
			c.own += n
		} else {
			c.system += n
		}
	}
	return c, IsPCIAddress(c.pci)
}

// size reads a number with an optional unit, which is 1024 or 1024² of them.
func size(text string) uint64 {
	number, unit, _ := strings.Cut(text, " ")
	shift := 0
	switch strings.TrimSpace(unit) {
	case "KiB", "kB":
		shift = 10
	case "MiB":
		shift = 20
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n > 1<<(50-shift) { // no machine has as much
		return 0
	}
	return n << shift
}
