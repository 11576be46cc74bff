package llamacpp

import (
	"reflect"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
)

func TestParseDevices(t *testing.T) {
	t.Parallel()
	soft := func(index int, name string) engine.GPU {
		return engine.GPU{Index: index, Name: "llvmpipe (LLVM 22.1.8, 256 bits)", MemoryTotal: 24105 << 20, MemoryFree: engine.UnknownBytes, Backends: []string{name}}
	}
	for name, tt := range map[string]struct {
		output string
		want   []engine.GPU
		words  string
	}{
		// The first four are of a real b11669.
		"two":  {"Available devices:\n  Vulkan0: llvmpipe (LLVM 22.1.8, 256 bits) (24105 MiB, 22927 MiB free)\n  Vulkan1: llvmpipe (LLVM 22.1.8, 256 bits) (24105 MiB, 22927 MiB free)\n", []engine.GPU{soft(0, "Vulkan0"), soft(1, "Vulkan1")}, ""},
		"none": {"Available devices:\n  (none)\n", []engine.GPU{}, ""},
		"a wrong index": {
			"ggml_vulkan: Invalid device index 7 in GGML_VK_VISIBLE_DEVICES.\nAvailable devices:\n  (none)\n",
			[]engine.GPU{},
			"ggml_vulkan: Invalid device index 7 in GGML_VK_VISIBLE_DEVICES.",
		},
		"a wrong index, on the other stream": {
			"Available devices:\n  (none)\nggml_vulkan: Invalid device index 7 in GGML_VK_VISIBLE_DEVICES.\n",
			[]engine.GPU{},
			"ggml_vulkan: Invalid device index 7 in GGML_VK_VISIBLE_DEVICES.",
		},
		"older builds":   {"Available devices:\n", []engine.GPU{}, ""},
		"no answer":      {"", nil, ""},
		"something else": {"error: invalid argument: --list-devices\n", nil, "error: invalid argument: --list-devices"},
		"no memory":      {"Available devices:\n  BLAS: OpenBLAS (0 MiB, 0 MiB free)\n", []engine.GPU{}, ""},
		"Windows' lines": {"Available devices:\r\n  Vulkan0: llvmpipe (LLVM 22.1.8, 256 bits) (24105 MiB, 1 MiB free)\r\n", []engine.GPU{soft(0, "Vulkan0")}, ""},
		"no CUDA": {
			"ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected\nAvailable devices:\n  (none)\n",
			[]engine.GPU{},
			"ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected",
		},
	} {
		if got, words := parseDevices(tt.output); !reflect.DeepEqual(got, tt.want) || words != tt.words {
			t.Errorf("%s: got %+v, %q", name, got, words)
		}
	}
}

func FuzzParseDevices(f *testing.F) {
	f.Add("Available devices:\n  Vulkan0: llvmpipe (LLVM 22.1.8, 256 bits) (24105 MiB, 22927 MiB free)\n")
	f.Add("Available devices:\n  CUDA0: x (99999999999999999999 MiB, 0 MiB free)\n  (none)")
	f.Fuzz(func(t *testing.T, output string) {
		found, words := parseDevices(output)
		if (found != nil) != strings.Contains("\n"+output, "\nAvailable devices:") {
			t.Errorf("%q: %+v", output, found)
		}
		for i, g := range found {
			if g.Index != i || g.MemoryTotal <= 0 || len(g.Backends) != 1 || g.Backends[0] == "" {
				t.Errorf("%q: %+v", output, g)
			}
		}
		if strings.ContainsAny(words, "\n") {
			t.Errorf("%q: %q", output, words)
		}
	})
}

// What a real b11669 logs of a device that stands for one of PCI, and of one in software.
func TestWordsOfDevices(t *testing.T) {
	t.Parallel()
	found, put := devices.Compiled(), buffers.Compiled()
	for line, want := range map[string][3]string{
		"0.00.342.374 I llama_prepare_model_devices: using device Vulkan0 (llvmpipe (LLVM 22.1.8, 256 bits)) (unknown id) - 22007 MiB free": {"Vulkan0", "llvmpipe (LLVM 22.1.8, 256 bits)", "unknown id"},
		"llama_model_load_from_file_impl: using device CUDA0 (NVIDIA H200) - 142000 MiB free":                                               {"CUDA0", "NVIDIA H200", ""},
		"llama_prepare_model_devices: using device CUDA0 (NVIDIA H200) (0000:3B:00.0) - 142000 MiB free":                                    {"CUDA0", "NVIDIA H200", "0000:3B:00.0"},
	} {
		m := found.FindStringSubmatch(line)
		if m == nil || m[found.SubexpIndex("device")] != want[0] || m[found.SubexpIndex("name")] != want[1] || m[found.SubexpIndex("pci")] != want[2] {
			t.Errorf("%q: %q", line, m)
		}
	}
	for line, want := range map[string][2]string{
		"0.01.336.662 I load_tensors:   CPU_Mapped model buffer size =    28.69 MiB": {"CPU_Mapped", "28.69"},
		"load_tensors:        CUDA0 model buffer size =  4095.05 MiB":                {"CUDA0", "4095.05"},
		"llm_load_tensors:      CUDA0 buffer size =  4095.05 MiB":                    {"CUDA0", "4095.05"},
	} {
		m := put.FindStringSubmatch(line)
		if m == nil || m[put.SubexpIndex("device")] != want[0] || m[put.SubexpIndex("mib")] != want[1] {
			t.Errorf("%q: %q", line, m)
		}
	}
	if buffers.MatchString("llama_kv_cache:    Vulkan0 KV buffer size =    11.25 MiB") {
		t.Error("a cache is taken for weights")
	}
	if noGPU.MatchString("ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected") {
		t.Error("one backend of several is taken for all")
	}
}
