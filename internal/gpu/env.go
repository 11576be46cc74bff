package gpu

import (
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Variables are those by which runtimes are told which GPUs they may see.
var variables = []string{
	"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "GGML_VK_VISIBLE_DEVICES",
	"ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK", "ZE_ENABLE_PCI_ID_DEVICE_ORDER",
}

// Variables returns them.
func Variables() []string { return slices.Clone(variables) }

// OfNVIDIA reports whether a variable is one of CUDA's.
func OfNVIDIA(name string) bool { return strings.HasPrefix(name, "CUDA_") }

// Decides reports whether a variable decides which GPUs a runtime sees.
func Decides(name string) bool { return slices.Contains(variables, name) }

// Env is the environment that confines an engine to its GPUs, or hides all from it. Devices that the executable knows by
// names of its own are told to it by those.
func Env(policy Policy, gpus []Device, b Build) map[string]string {
	env := map[string]string{}
	switch {
	case policy == Unmanaged:
		return env
	case policy == None || len(gpus) == 0:
		return hidden(b)
	}
	of := func(v engine.Vendor) (some []Device) {
		for _, g := range gpus {
			if vendor(g) == v && len(g.Backends) == 0 {
				some = append(some, g)
			}
		}
		return some
	}
	if some := of(engine.VendorNVIDIA); len(some) > 0 {
		// By UUID, because an index means another GPU after one is lost.
		env["CUDA_VISIBLE_DEVICES"] = joined(some, func(g Device) string { return g.UUID })
		env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
	}
	if some := of(engine.VendorAMD); len(some) > 0 {
		if b.Python {
			// Alone, and by index: vLLM raises where it differs from CUDA_VISIBLE_DEVICES, and Ray where ROCR's is set without it.
			env["HIP_VISIBLE_DEVICES"] = joined(some, index)
		} else {
			env["ROCR_VISIBLE_DEVICES"] = rocr(some)
		}
	}
	if some := of(engine.VendorIntel); len(some) > 0 {
		if b.has(backendOf[engine.VendorIntel]...) {
			env["ONEAPI_DEVICE_SELECTOR"] = "level_zero:" + joined(some, index)
		} else {
			env["ZE_AFFINITY_MASK"] = joined(some, index)
		}
		env["ZE_ENABLE_PCI_ID_DEVICE_ORDER"] = "1" // the one of our indexes
	}
	if len(env) > 0 && b.has(vulkan) {
		// The same executable would use the other cards by Vulkan, to which the variables above say nothing.
		env["GGML_VK_VISIBLE_DEVICES"] = ""
	}
	return env
}

func hidden(b Build) map[string]string {
	env := map[string]string{
		// Each runtime has its own word for "none". CUDA: "If the variable is set to an empty string, no GPU devices
		// are visible" (Programming Guide §5.2.1.1). ROCr: set and empty filters all. HIP takes an empty value for
		// unset, and ends the list at an invalid index (clr, rocclr/device/rocm/rocdevice.cpp, Device::init).
		// ggml-vulkan makes no device of an empty list, and throws on an invalid index.
		"CUDA_VISIBLE_DEVICES":    "",
		"ROCR_VISIBLE_DEVICES":    "",
		"HIP_VISIBLE_DEVICES":     "-1",
		"GGML_VK_VISIBLE_DEVICES": "",
	}
	if b.Runtime == engine.VendorIntel || b.has(backendOf[engine.VendorIntel]...) {
		env["ONEAPI_DEVICE_SELECTOR"] = "*:cpu" // Level Zero has no word for "none"
	}
	return env
}

// rocr names devices as ROCr does. Its list ends at the first token that is wrong or twice, so that ids are used only where
// all have one.
func rocr(gpus []Device) string {
	if slices.ContainsFunc(gpus, func(g Device) bool { return g.UUID == "" }) {
		return joined(gpus, index)
	}
	return joined(gpus, func(g Device) string { return g.UUID })
}

func index(g Device) string { return strconv.Itoa(g.Index) }

func joined(gpus []Device, of func(Device) string) string {
	tokens := make([]string, len(gpus))
	for i, g := range gpus {
		tokens[i] = of(g)
	}
	return strings.Join(tokens, ",")
}
