package gpu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Build is what an engine's executable can use, as far as that is known before the start. The zero value knows nothing.
type Build struct {
	What string // for messages, such as "this llama-server"
	// Asked says that Listed is what the executable lists: nothing, when it was built without a backend, or no backend finds a
	// device.
	Asked  bool
	Listed []Device // with their names as the only one of Backends
	Words  string   // what it said beside them, such as why a backend failed; "" for nothing
	// Python says that it is a Python engine.
	Python bool
	// Runtime is the vendor that a Python engine was built for; "" when that is not known. CPU stands for none.
	Runtime engine.Vendor
}

// CPU is the Runtime of a Python engine that was built for no GPU.
const CPU engine.Vendor = "cpu"

// The backends of llama.cpp by the vendors whose GPUs they are made for. Vulkan drives them all; the rest have devices that
// are known by the executable's list alone.
var backendOf = map[engine.Vendor][]string{
	engine.VendorNVIDIA: {"CUDA"}, engine.VendorAMD: {"ROCm", "HIP"}, engine.VendorIntel: {"SYCL", "OPENVINO", "OpenVINO"},
}

const vulkan = "Vulkan"

// remote is the backend whose devices belong to other machines.
const remote = "RPC"

// backend is the part of a device's name that tells the backend.
func backend(d Device) string {
	if len(d.Backends) == 0 {
		return ""
	}
	return strings.TrimRight(d.Backends[0], "0123456789")
}

// local are the devices of this machine that the executable lists.
func (b Build) local() []Device {
	return slices.DeleteFunc(slices.Clone(b.Listed), func(d Device) bool { return strings.HasPrefix(backend(d), remote) })
}

// has reports whether the executable lists a device of one of the backends.
func (b Build) has(backends ...string) bool {
	return slices.ContainsFunc(b.Listed, func(d Device) bool { return slices.Contains(backends, backend(d)) })
}

// forNone reports whether the executable can use no GPU at all.
func (b Build) forNone() bool { return b.Runtime == CPU || b.Asked && len(b.local()) == 0 }

// vendor is who made a device. Records of earlier versions and plug-ins do not tell: they know NVIDIA alone.
func vendor(d Device) engine.Vendor {
	if d.Vendor == "" && (d.UUID != "" || len(d.Backends) == 0) {
		return engine.VendorNVIDIA
	}
	return d.Vendor
}

// native reports whether the executable uses the device by its vendor's own runtime. Of an unknown one that is assumed.
func (b Build) native(d Device) bool {
	switch {
	case d.ComputeProblem != "":
		return false
	case b.Asked:
		return b.has(backendOf[vendor(d)]...)
	}
	return b.Runtime == "" || b.Runtime == vendor(d)
}

// cannot says why the executable cannot use a device; "" when it can.
func (b Build) cannot(d Device) string {
	switch {
	case d.Problem != "" || vendor(d) == "": // the executable itself lists the second
		return d.Problem
	case b.native(d), b.Asked && b.has(vulkan), !b.Asked && b.Runtime == "" && d.ComputeProblem != "": // which may be of Vulkan
		return ""
	case b.Asked && b.has(backendOf[vendor(d)]...), !b.Asked && b.Runtime == vendor(d):
		return d.ComputeProblem
	}
	return b.noBackend(vendor(d))
}

// noBackend says that the executable cannot use what there is.
func (b Build) noBackend(v engine.Vendor) string {
	has := "it was built for the CPU"
	switch {
	case b.Asked && len(b.Listed) == 0:
		has = "it lists no device"
	case b.Asked:
		has = "it lists " + names(b.Listed)
	case b.Runtime != CPU:
		has = "it was built for " + vendorName(b.Runtime)
	}
	if b.Words != "" {
		return fmt.Sprintf("%s finds no GPU of %s: %s, and says %q", b.What, vendorName(v), has, b.Words)
	}
	return fmt.Sprintf("%s has no backend for a GPU of %s: %s", b.What, vendorName(v), has)
}

func names(listed []Device) string {
	out := make([]string, len(listed))
	for i, d := range listed {
		out[i] = fmt.Sprintf("%s (%s)", d.Backends[0], d.Name)
	}
	return strings.Join(out, ", ")
}

func vendorName(v engine.Vendor) string {
	switch v {
	case engine.VendorNVIDIA:
		return "NVIDIA"
	case engine.VendorAMD:
		return "AMD"
	case engine.VendorIntel:
		return "Intel"
	}
	return "an unknown vendor"
}

// tie finds by which names of Vulkan's the executable knows devices of the node. all are those of the node.
func (b Build) tie(chosen, all []Device) ([]Device, error) {
	tied := slices.Clone(chosen)
	for i, d := range tied {
		if vendor(d) == "" || b.native(d) || !b.has(vulkan) {
			continue
		}
		of := func(devices []Device, keep func(Device) bool) []Device {
			return slices.DeleteFunc(slices.Clone(devices), func(o Device) bool { return !keep(o) })
		}
		ours := func(o Device) bool { return vendor(o) == vendor(d) && !partition(o) }
		listed := of(b.Listed, func(o Device) bool { return backend(o) == vulkan && saysVendor(o.Name, vendor(d)) })
		there, wanted := of(all, ours), of(chosen, ours)
		name := ""
		if len(there) == len(listed) && len(wanted) == len(there) { // all of them: which is which does not matter
			name = listed[slices.IndexFunc(wanted, func(o Device) bool { return o.ID() == d.ID() })].Backends[0]
		} else {
			name = matching(d, there, listed)
		}
		if name == "" {
			return nil, &Error{
				Device: Label(d), Err: fmt.Errorf("%s does not tell which of its devices that is: %s", b.What, names(b.Listed)),
				Advice: fmt.Sprintf(`write the one that is meant under "devices", such as %q`, b.Listed[0].Backends[0]),
			}
		}
		tied[i].Backends = []string{name}
	}
	named := count(tied, func(d Device) bool { return len(d.Backends) > 0 })
	if named > 0 && named < len(tied) { // the others are confined by a variable, of which these know nothing
		return nil, &Error{
			Err:    fmt.Errorf("%s uses some of %s by another backend than the rest", b.What, labels(chosen)),
			Advice: fmt.Sprintf(`write all of them under "devices" as it lists them: %s`, names(b.Listed)),
		}
	}
	return tied, nil
}

// matching is the name of the listed device that must be d: the only one of its name, or of its memory.
func matching(d Device, there, listed []Device) string {
	sameName := func(o Device) bool { return o.Name == d.Name }
	sameSize := func(o Device) bool { // Vulkan's heap is a little smaller than what the driver has
		large, small := max(o.MemoryTotal, d.MemoryTotal), min(o.MemoryTotal, d.MemoryTotal)
		return small > 0 && large-small <= large/32
	}
	for _, same := range []func(Device) bool{sameName, sameSize} {
		i := slices.IndexFunc(listed, same)
		if i >= 0 && !slices.ContainsFunc(listed[i+1:], same) && count(there, same) == 1 {
			return listed[i].Backends[0]
		}
	}
	return ""
}

func count(devices []Device, which func(Device) bool) (n int) {
	for _, d := range devices {
		if which(d) {
			n++
		}
	}
	return n
}

// saysVendor reports whether a name as Vulkan's drivers give it is of a device of a vendor's.
func saysVendor(name string, v engine.Vendor) bool {
	words := map[engine.Vendor][]string{
		engine.VendorNVIDIA: {"NVIDIA", "GeForce", "Tesla", "Quadro"}, engine.VendorAMD: {"AMD", "Radeon", "RADV"}, engine.VendorIntel: {"Intel"},
	}
	return slices.ContainsFunc(words[v], func(word string) bool { return strings.Contains(name, word) })
}

// RuntimeOf reads for what a Python engine was built, from the local part of a version ("cu129", "rocm711", "xpu", "cpu") or
// from what torch says of itself ("cuda", "hip", "xpu"); "" when that tells nothing.
func RuntimeOf(word string) engine.Vendor {
	for prefix, v := range map[string]engine.Vendor{
		"cu": engine.VendorNVIDIA, "rocm": engine.VendorAMD, "hip": engine.VendorAMD, "xpu": engine.VendorIntel, "cpu": CPU,
	} {
		if strings.HasPrefix(word, prefix) {
			return v
		}
	}
	return ""
}

// RuntimeOfImage reads it from the words in the name and the tag of a container image; "" when they tell nothing.
func RuntimeOfImage(image string) engine.Vendor {
	words := strings.FieldsFunc(image, func(r rune) bool { return strings.ContainsRune("/:-_.@", r) })
	for _, word := range words {
		switch v := RuntimeOf(word); {
		case v == engine.VendorNVIDIA && word != "cuda" && strings.Trim(word, "0123456789") != "cu":
		case v == CPU && word != "cpu":
		case v != "":
			return v
		}
	}
	return ""
}
