// Package drm reads what the kernel tells of GPUs without a vendor's library: those of AMD and Intel in /sys, whether this
// user may open them, and how much memory of them processes hold, in /proc.
//
// Package gpu calls it. It opens device files to see whether that is allowed, and closes them at once; it uses no device and
// changes nothing.
package drm

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Tree is where to look, so that a test can bring machines of its own.
type Tree struct {
	Sys, Proc, Dev string // such as "/sys", "/proc" and "/dev"
	// Open opens a file below Dev for reading and writing, and closes it again.
	Open func(path string) error
}

// System is the tree of this machine.
func System() Tree { return Tree{Sys: "/sys", Proc: "/proc", Dev: "/dev", Open: openDevice} }

// The ids of vendors in PCI's registry.
const (
	pciAMD   = "0x1002"
	pciIntel = "0x8086"
)

// GPUs lists the GPUs of AMD, in the order of ROCm, and then those of Intel, in PCI bus order. One that this user may not open
// is listed with its Problem. Where the kernel knows no GPU, there is none: that is no error.
func (t Tree) GPUs() []engine.GPU { return t.list(t.denied) }

// list is GPUs with the reason why a device file below Dev cannot be used.
func (t Tree) list(denied func(name string) string) []engine.GPU {
	var amd, intel []card
	for _, c := range t.cards() {
		switch c.text("vendor") {
		case pciAMD:
			amd = append(amd, c)
		case pciIntel:
			intel = append(intel, c)
		}
	}
	return append(t.amd(amd, denied), listIntel(intel, denied)...)
}

// card is a device with a render node.
type card struct {
	dir    string // in /sys, with its attributes
	pci    string // its address; "" for a device that is none of PCI
	render string // such as "renderD128"
	driver string // such as "amdgpu"
}

// cards are in PCI bus order.
func (t Tree) cards() []card {
	nodes, _ := filepath.Glob(filepath.Join(t.Sys, "class/drm/renderD*"))
	var all []card
	for _, node := range nodes {
		dir, err := filepath.EvalSymlinks(filepath.Join(node, "device"))
		if err != nil {
			continue
		}
		c := card{dir: dir, render: filepath.Base(node)}
		if IsPCIAddress(filepath.Base(dir)) {
			c.pci = filepath.Base(dir)
		}
		if driver, err := os.Readlink(filepath.Join(dir, "driver")); err == nil {
			c.driver = filepath.Base(driver)
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b card) int { return cmp.Or(cmp.Compare(a.pci, b.pci), cmp.Compare(a.render, b.render)) })
	return all
}

// text is an attribute; "" where it is not there.
func (c card) text(name string) string { return text(filepath.Join(c.dir, name)) }

// bytes is an attribute that counts bytes.
func (c card) bytes(name string) engine.Bytes { return amount(c.text(name)) }

// name is what can be said of a device whose driver has no name for it.
func (c card) name(what string) string {
	id := strings.TrimPrefix(c.text("vendor"), "0x") + ":" + strings.TrimPrefix(c.text("device"), "0x")
	return what + " [" + id + "]"
}

func text(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func amount(text string) engine.Bytes {
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil || n < 0 {
		return engine.UnknownBytes
	}
	return engine.Bytes(n)
}

// IsPCIAddress reports whether text is an address as the kernel writes it, such as "0000:3b:00.0".
func IsPCIAddress(text string) bool {
	if len(text) < 12 || strings.ToLower(text) != text {
		return false
	}
	var parts [4]string
	rest, function, ok := strings.Cut(text, ".")
	if !ok {
		return false
	}
	fields := strings.Split(rest, ":")
	if len(fields) != 3 || len(fields[0]) < 4 || len(fields[1]) != 2 || len(fields[2]) != 2 || len(function) != 1 {
		return false
	}
	copy(parts[:], append(fields, function))
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 16, 32); err != nil {
			return false
		}
	}
	return true
}
