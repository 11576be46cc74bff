package gpu

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
)

// What a real llama-server (b11669) has logged, with a GPU in software that stood for one of PCI.
const (
	allOffloaded = "0.01.336.656 I load_tensors: offloaded 31/31 layers to GPU"
	onVulkan0    = "0.01.336.663 I load_tensors:      Vulkan0 model buffer size =    92.10 MiB"
	onVulkan1    = "0.01.336.663 I load_tensors:      Vulkan1 model buffer size =    58.28 MiB"
	mapped       = "0.01.336.662 I load_tensors:   CPU_Mapped model buffer size =    28.69 MiB"
	allMapped    = "0.01.336.662 I load_tensors:   CPU_Mapped model buffer size =    92.10 MiB"
	pinned       = "load_tensors:  Vulkan_Host model buffer size =    28.69 MiB"
	kvOnVulkan0  = "llama_kv_cache:    Vulkan0 KV buffer size =    11.25 MiB"
	usesRadeon   = "llama_prepare_model_devices: using device Vulkan0 (AMD Radeon RX 7900 XTX (RADV NAVI31)) (0000:03:00.0) - 24000 MiB free"
	usesUnknown  = "llama_prepare_model_devices: using device Vulkan0 (llvmpipe (LLVM 21.1.8, 256 bits)) (unknown id) - 19189 MiB free"
	failedCUDA   = "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected"
)

var llamaWords = Words{
	Fallback: regexp.MustCompile(`no usable GPU found`),
	Buffers:  regexp.MustCompile(`load_tensors: +(?P<device>\S+) (?:model )?buffer size = +(?P<mib>[\d.]+) MiB`),
	Devices:  regexp.MustCompile(`using device (?P<device>\S+) \((?P<name>.+?)\)(?: \((?P<pci>[0-9a-fA-F:.]+|unknown id)\))? - \d+ MiB free`),
	Layers:   regexp.MustCompile(`offloaded (?P<used>\d+)/(?P<total>\d+) layers to GPU`),
}

func TestProveByWeights(t *testing.T) {
	t.Parallel()
	holds := func(gpu string, bytes uint64) []Holding { return []Holding{{PID: 10, GPU: gpu, Bytes: bytes}} }
	for name, tt := range map[string]struct {
		before []Device
		log    []string
		held   []Holding
		want   string // a part of what proves it
		err    string // a part of the error
	}{
		"all on the GPU":            {log: []string{usesRadeon, allOffloaded, mapped, onVulkan0}, want: "92 MiB of weights on Vulkan0 (0 (GPU-00000000000000A0))"},
		"on two":                    {log: []string{allOffloaded, onVulkan0, onVulkan1}, want: "92 MiB of weights on Vulkan0, 58 MiB of weights on Vulkan1"},
		"a GPU without an address":  {before: []Device{soft}, log: []string{usesUnknown, onVulkan0}, want: "92 MiB of weights on Vulkan0"},
		"one backend of two failed": {log: []string{failedCUDA, usesRadeon, onVulkan0}, want: "92 MiB of weights on Vulkan0"},

		"--device none":                          {log: []string{allOffloaded, allMapped}, err: "the engine put no weights on a GPU: it has 92.10 MiB in CPU_Mapped"},
		"-ot '.*=CPU'":                           {log: []string{usesRadeon, allOffloaded, allMapped, kvOnVulkan0}, held: holds(radeon.UUID, 1<<30), err: "it has 92.10 MiB in CPU_Mapped"},
		"pinned memory of the host":              {log: []string{allOffloaded, pinned}, err: "it has 28.69 MiB in Vulkan_Host"},
		"another machine's":                      {log: []string{"load_tensors: RPC0[10.0.0.2:50052] model buffer size = 92.10 MiB"}, err: "no weights on a GPU"},
		"a GPU that is not the replica's":        {before: []Device{small}, log: []string{usesRadeon, onVulkan0}, err: "the engine put weights on Vulkan0 (AMD Radeon RX 7900 XTX (RADV NAVI31)) at 0000:03:00.0, which is none of the GPUs of this replica: 1 (GPU-00000000000000A1)"},
		"one of an earlier version's record":     {before: []Device{{UUID: "GPU-n0", PCIBusID: "00000000:03:00.0"}}, log: []string{usesRadeon, onVulkan0}, want: "on Vulkan0 (0 (GPU-n0))"},
		"buffers that are none":                  {log: []string{"load_tensors: CPU model buffer size = x MiB", allOffloaded}, want: `it says "` + allOffloaded},
		"its processes, by the kernel":           {held: holds(radeon.PCIBusID, 100<<20), want: "its processes hold 100 MiB of GPU 0 (GPU-00000000000000A0)"},
		"its processes, but only a context":      {held: holds(radeon.PCIBusID, 9<<20), err: "no GPU memory is in use by it"},
		"its processes, on another's GPU":        {held: holds(small.PCIBusID, 1<<30), err: "no GPU memory is in use by it"},
		"nothing is known of memory":             {before: []Device{arc}, err: "how much of its GPUs' memory is in use is not known"},
		"main memory grows by everybody's doing": {before: []Device{iris}, err: "how much of its GPUs' memory is in use is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := Evidence{Words: llamaWords, Log: tt.log, PIDs: []int{9, 10}, Held: tt.held, Before: tt.before}
			if e.Before == nil {
				e.Before = []Device{radeon}
			}
			for _, d := range e.Before { // all of it is in use by now
				if d.MemoryFree.Known() && d.Unified {
					d.MemoryFree = 0
				}
				e.After = append(e.After, d)
			}
			if e.Held == nil {
				e.HeldErr = errForeignPIDs
			}
			by, err := e.Prove()
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) || !strings.Contains(by, tt.want) {
				t.Errorf("got %q, %v\nwant %q, %q", by, err, tt.want, tt.err)
			}
			if _, ok := errors.AsType[*Error](err); err != nil && !ok {
				t.Errorf("%T is no *Error", err)
			}
		})
	}
}

// Unknown memory neither grows nor shrinks.
func TestGrownUnknown(t *testing.T) {
	t.Parallel()
	unknown := radeon
	unknown.MemoryFree = engine.UnknownBytes
	for _, pair := range [][2]Device{{radeon, unknown}, {unknown, radeon}} {
		if _, grown := grownMost(pair[:1], pair[1:]); grown != 0 {
			t.Errorf("%v: grown by %d", pair, grown)
		}
	}
}

// Whatever an engine logs, a proof names a device that is none of the host's.
func FuzzProve(f *testing.F) {
	f.Add(strings.Join([]string{usesRadeon, allOffloaded, mapped, onVulkan0}, "\n"))
	f.Add(allOffloaded + "\n" + allMapped)
	f.Add("load_tensors: CPU model buffer size = 1e999 MiB\nload_tensors: X model buffer size = . MiB")
	f.Fuzz(func(t *testing.T, log string) {
		e := Evidence{Words: Words{Buffers: llamaWords.Buffers, Devices: llamaWords.Devices}, Log: strings.Split(log, "\n"), Before: []Device{radeon}}
		by, err := e.Prove()
		if (by == "") == (err == nil) {
			t.Errorf("%q: %q, %v", log, by, err)
		}
		if err == nil && !strings.Contains(by, "MiB of weights on ") {
			t.Errorf("%q is proven by %q", log, by)
		}
	})
}
