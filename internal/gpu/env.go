package gpu

import "strings"

// Env is the environment that confines an engine to its GPUs, or hides all from it.
func Env(policy Policy, gpus []Device) map[string]string {
	if policy == None || len(gpus) == 0 {
		return map[string]string{
			// Each runtime has its own word for "none". CUDA: "If the variable is set to an empty string, no GPU devices
			// are visible" (Programming Guide §5.2.1.1). ROCr: set and empty filters all. HIP takes an empty value for
			// unset, and ends the list at an invalid index (clr, rocclr/device/rocm/rocdevice.cpp, Device::init).
			// ggml-vulkan makes no device of an empty list, and throws on an invalid index.
			"CUDA_VISIBLE_DEVICES":    "",
			"ROCR_VISIBLE_DEVICES":    "",
			"HIP_VISIBLE_DEVICES":     "-1",
			"GGML_VK_VISIBLE_DEVICES": "",
		}
	}
	uuids := make([]string, len(gpus))
	for i, g := range gpus {
		uuids[i] = g.UUID
	}
	return map[string]string{
		// By UUID, because an index means another GPU after one is lost.
		"CUDA_VISIBLE_DEVICES": strings.Join(uuids, ","),
		"CUDA_DEVICE_ORDER":    "PCI_BUS_ID",
	}
}
