package gpu

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
)

// listed is a device as an executable lists it.
func listed(name, what string, total engine.Bytes) Device {
	return Device{Name: what, MemoryTotal: total, MemoryFree: engine.UnknownBytes, Backends: []string{name}}
}

func lists(devices ...Device) Build {
	return Build{What: "this llama-server", Asked: true, Listed: devices}
}

var (
	rtx    = Device{Vendor: engine.VendorNVIDIA, UUID: "GPU-n0", Name: "NVIDIA GeForce RTX 4090", PCIBusID: "0000:01:00.0", MemoryTotal: 24 << 30, MemoryFree: 23 << 30}
	rtx1   = Device{Vendor: engine.VendorNVIDIA, Index: 1, UUID: "GPU-n1", Name: "NVIDIA GeForce RTX 4090", PCIBusID: "0000:02:00.0", MemoryTotal: 24 << 30, MemoryFree: 23 << 30}
	radeon = Device{Vendor: engine.VendorAMD, UUID: "GPU-00000000000000A0", Name: "AMD GPU gfx1100", PCIBusID: "0000:03:00.0", MemoryTotal: 24 << 30, MemoryFree: 20 << 30}
	small  = Device{Vendor: engine.VendorAMD, Index: 1, UUID: "GPU-00000000000000A1", Name: "AMD GPU gfx1101", PCIBusID: "0000:04:00.0", MemoryTotal: 16 << 30, MemoryFree: 16 << 30}
	noID   = Device{Vendor: engine.VendorAMD, Index: 2, Name: "AMD GPU gfx90c", PCIBusID: "0000:05:00.0", MemoryTotal: 8 << 30, MemoryFree: 8 << 30}
	noKFD  = Device{Vendor: engine.VendorAMD, Name: "AMD GPU", PCIBusID: "0000:06:00.0", MemoryTotal: 16 << 30, MemoryFree: 8 << 30, ComputeProblem: "cannot open /dev/kfd"}
	denied = Device{Vendor: engine.VendorAMD, Name: "AMD GPU", PCIBusID: "0000:06:00.0", Problem: "cannot open /dev/dri/renderD128; add it to the group render"}
	arc    = Device{Vendor: engine.VendorIntel, Name: "Intel GPU [8086:e20b]", PCIBusID: "0000:07:00.0", MemoryTotal: 12 << 30, MemoryFree: engine.UnknownBytes}
	iris   = Device{Vendor: engine.VendorIntel, Name: "Intel GPU [8086:a780]", PCIBusID: "0000:00:02.0", MemoryTotal: engine.UnknownBytes, MemoryFree: 9 << 30, Unified: true}

	cuda0    = listed("CUDA0", "NVIDIA GeForce RTX 4090", 24<<30)
	rocm0    = listed("ROCm0", "AMD Radeon RX 7900 XTX", 24<<30)
	vkRTX    = listed("Vulkan0", "NVIDIA GeForce RTX 4090", 24<<30)
	vkRTX1   = listed("Vulkan1", "NVIDIA GeForce RTX 4090", 24<<30)
	vkRadeon = listed("Vulkan1", "AMD Radeon RX 7900 XTX (RADV NAVI31)", 24<<30-100<<20)
	vkSmall  = listed("Vulkan0", "AMD Radeon RX 7800 XT (RADV NAVI32)", 16<<30-100<<20)
	sycl0    = listed("SYCL0", "Intel(R) Arc(TM) B580 Graphics", 12<<30)
	soft     = listed("Vulkan0", "llvmpipe (LLVM 21.1.8, 256 bits)", 24105<<20)
	rpc      = listed("RPC0", "10.0.0.2:50052", 8<<30)
)

// named is a device with the name by which the executable is told of it.
func named(d Device, name string) Device {
	d.Backends = []string{name}
	return d
}

func TestSelectByBuild(t *testing.T) {
	t.Parallel()
	broken := lists()
	broken.Words = "ggml_cuda_init: failed to initialize CUDA: unknown error"
	nvidiaAndAMD := []Device{rtx, radeon, small}
	for name, tt := range map[string]struct {
		policy  Policy
		names   []string
		gpus    []Device
		err     error
		build   Build
		want    []Device
		env     map[string]string
		wantErr string // a part
		why     string // a part
	}{
		"AMD with ROCm": {
			gpus: []Device{radeon, small}, build: lists(rocm0), want: []Device{radeon, small},
			env: map[string]string{"ROCR_VISIBLE_DEVICES": "GPU-00000000000000A0,GPU-00000000000000A1"},
		},
		"one without an id": {
			gpus: []Device{radeon, small, noID}, build: lists(rocm0), want: []Device{radeon, small, noID},
			env: map[string]string{"ROCR_VISIBLE_DEVICES": "0,1,2"},
		},
		"AMD with vLLM": {
			names: []string{"1"}, gpus: []Device{radeon, small}, build: Build{Python: true, Runtime: engine.VendorAMD}, want: []Device{small},
			env: map[string]string{"HIP_VISIBLE_DEVICES": "1"},
		},
		"by address": {
			names: []string{"04:00.0"}, gpus: []Device{radeon, small}, build: lists(rocm0), want: []Device{small},
			env: map[string]string{"ROCR_VISIBLE_DEVICES": "GPU-00000000000000A1"},
		},
		"Arc with SYCL": {
			gpus: []Device{arc}, build: lists(sycl0), want: []Device{arc},
			env: map[string]string{"ONEAPI_DEVICE_SELECTOR": "level_zero:0", "ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1"},
		},
		"Arc with vLLM": {
			gpus: []Device{arc}, build: Build{Runtime: engine.VendorIntel}, want: []Device{arc},
			env: map[string]string{"ZE_AFFINITY_MASK": "0", "ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1"},
		},
		"an integrated one beside others":       {gpus: []Device{rtx, iris}, want: []Device{rtx}},
		"an integrated one by its address":      {names: []string{"0000:00:02.0"}, gpus: []Device{rtx, iris}, want: []Device{iris}},
		"an index counts without it":            {names: []string{"0"}, gpus: []Device{rtx, iris}, want: []Device{rtx}},
		"an integrated one alone, by Vulkan":    {gpus: []Device{iris}, build: lists(listed("Vulkan0", "Intel(R) UHD Graphics 770", 30<<30)), want: []Device{named(iris, "Vulkan0")}, env: map[string]string{}},
		"an index of two vendors, build known":  {names: []string{"0"}, gpus: nvidiaAndAMD, build: lists(rocm0), want: []Device{radeon}},
		"an index of two vendors, unknown":      {names: []string{"0"}, gpus: nvidiaAndAMD, wantErr: "it names more than one: 0 (GPU-n0), 0 (GPU-00000000000000A0)"},
		"the vendor of the build":               {gpus: nvidiaAndAMD, build: lists(rocm0), want: []Device{radeon, small}},
		"one vendor where the build is unknown": {gpus: nvidiaAndAMD, want: []Device{rtx}},
		"its own runtime before Vulkan": {
			gpus: nvidiaAndAMD, build: lists(rocm0, vkRTX), want: []Device{radeon, small},
			env: map[string]string{"ROCR_VISIBLE_DEVICES": "GPU-00000000000000A0,GPU-00000000000000A1", "GGML_VK_VISIBLE_DEVICES": ""},
		},

		"NVIDIA by Vulkan":             {gpus: []Device{rtx}, build: lists(vkRTX), want: []Device{named(rtx, "Vulkan0")}, env: map[string]string{}},
		"two alike by Vulkan":          {gpus: []Device{rtx, rtx1}, build: lists(vkRTX, vkRTX1), want: []Device{named(rtx, "Vulkan0"), named(rtx1, "Vulkan1")}},
		"one of two alike by Vulkan":   {names: []string{"1"}, gpus: []Device{rtx, rtx1}, build: lists(vkRTX, vkRTX1), wantErr: `cannot use GPU "1 (GPU-n1)": this llama-server does not tell which of its devices that is: Vulkan0 (NVIDIA GeForce RTX 4090), Vulkan1 (NVIDIA GeForce RTX 4090); write the one that is meant under "devices", such as "Vulkan0"`},
		"one of two alike by its name": {names: []string{"Vulkan1"}, gpus: []Device{rtx, rtx1}, build: lists(vkRTX, vkRTX1), want: []Device{{Index: 1, Name: vkRTX1.Name, MemoryTotal: 24 << 30, MemoryFree: engine.UnknownBytes, Backends: []string{"Vulkan1"}}}, env: map[string]string{}},
		"two by their memory":          {names: []string{"1"}, gpus: []Device{radeon, small}, build: lists(vkSmall, vkRadeon), want: []Device{named(small, "Vulkan0")}},
		"a Python engine of which nothing is known": {
			gpus: []Device{radeon}, build: Build{Python: true}, want: []Device{radeon}, env: map[string]string{"HIP_VISIBLE_DEVICES": "0"},
		},
		"two by two backends": {
			names: []string{"GPU-n0", "0000:03:00.0"}, gpus: []Device{rtx, radeon}, build: lists(cuda0, vkRadeon),
			wantErr: `this llama-server uses some of 0 (GPU-n0), 0 (GPU-00000000000000A0) by another backend than the rest; write all of them under "devices" as it lists them: CUDA0 (NVIDIA GeForce RTX 4090), Vulkan1 (AMD`,
		},
		"two by two backends, by their names": {
			names: []string{"CUDA0", "Vulkan1"}, gpus: []Device{rtx, radeon}, build: lists(cuda0, vkRadeon), env: map[string]string{},
			want: []Device{ofList([]Device{cuda0, vkRadeon})[0], ofList([]Device{cuda0, vkRadeon})[1]},
		},
		"two of two vendors by Vulkan":  {names: []string{"GPU-n0", "0000:03:00.0"}, gpus: []Device{rtx, radeon}, build: lists(vkRTX, vkRadeon), want: []Device{named(rtx, "Vulkan0"), named(radeon, "Vulkan1")}},
		"no right to ROCm, with Vulkan": {gpus: []Device{noKFD}, build: lists(listed("Vulkan0", "AMD Radeon Graphics", 16<<30)), want: []Device{named(noKFD, "Vulkan0")}},
		"no right to ROCm":              {gpus: []Device{noKFD}, build: lists(rocm0), wantErr: "cannot open /dev/kfd"},
		"no right to ROCm, with vLLM":   {gpus: []Device{noKFD}, build: Build{Runtime: engine.VendorAMD}, wantErr: "cannot open /dev/kfd"},
		"no right at all":               {gpus: []Device{denied}, build: lists(rocm0), wantErr: "add it to the group render"},

		"a build for the CPU":           {gpus: []Device{rtx}, build: lists(), wantErr: `cannot use the GPU: this llama-server has no backend for a GPU of NVIDIA: it lists no device; use an executable that was built for this GPU, or set "gpu: optional" or "gpu: none"`},
		"a runtime that fails":          {gpus: []Device{rtx}, build: broken, wantErr: `this llama-server finds no GPU of NVIDIA: it lists no device, and says "ggml_cuda_init: failed to initialize CUDA: unknown error"`},
		"a wheel for the CPU":           {gpus: []Device{radeon}, build: Build{What: "this vllm", Runtime: CPU}, wantErr: "this vllm has no backend for a GPU of AMD: it was built for the CPU"},
		"a wheel for another vendor":    {gpus: []Device{radeon}, build: Build{What: "this vllm", Runtime: engine.VendorNVIDIA}, wantErr: "this vllm has no backend for a GPU of AMD: it was built for NVIDIA"},
		"a build for another vendor":    {gpus: []Device{radeon}, build: lists(cuda0), wantErr: "this llama-server has no backend for a GPU of AMD: it lists CUDA0 (NVIDIA GeForce RTX 4090)"},
		"another vendor's by name":      {names: []string{"0000:03:00.0"}, gpus: nvidiaAndAMD, build: lists(cuda0), wantErr: `cannot use GPU "0000:03:00.0": this llama-server has no backend`},
		"devices of another machine":    {gpus: []Device{rtx}, build: lists(rpc), wantErr: "has no backend for a GPU of NVIDIA: it lists RPC0"},
		"optional: a build for the CPU": {policy: Optional, gpus: []Device{rtx}, build: lists(), why: "has no backend for a GPU of NVIDIA"},
		"optional: another vendor":      {policy: Optional, gpus: []Device{radeon}, build: lists(cuda0), why: "has no backend for a GPU of AMD"},

		"a GPU that it alone knows":             {err: errNone, build: lists(soft), want: []Device{soft}, env: map[string]string{}},
		"by its name":                           {names: []string{"Vulkan0"}, err: errNone, build: lists(soft), want: []Device{soft}},
		"by an index":                           {names: []string{"0"}, err: errNone, build: lists(soft), want: []Device{soft}},
		"by an index that is absent":            {names: []string{"1"}, err: errNone, build: lists(soft), wantErr: `cannot use GPU "1": there is no such GPU; there are: Vulkan0`},
		"by a name that is absent":              {names: []string{"Vulkan7"}, gpus: []Device{rtx}, build: lists(vkRTX), wantErr: "there are: 0 (GPU-n0), Vulkan0"},
		"a Jetson":                              {err: errNone, build: lists(listed("CUDA0", "Orin", 62<<30)), want: []Device{listed("CUDA0", "Orin", 62<<30)}},
		"optional: a GPU that it alone knows":   {policy: Optional, err: errNone, build: lists(soft), want: []Device{soft}},
		"no driver, and what the engine says":   {err: errNone, build: broken, wantErr: `no NVIDIA driver (libnvidia-ml.so.1 not found), and this llama-server says "ggml_cuda_init: failed to initialize CUDA: unknown error"; install the driver`},
		"no driver, and a build for the CPU":    {err: errNone, build: lists(), wantErr: `cannot use the GPU: no NVIDIA driver (libnvidia-ml.so.1 not found); install the driver, or set`},
		"no driver, and devices elsewhere":      {err: errNone, build: lists(rpc), wantErr: "no NVIDIA driver"},
		"optional: no driver, and nothing else": {policy: Optional, err: errNone, build: lists(), why: "no NVIDIA driver"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Select(tt.policy, tt.names, Inventory{tt.gpus, tt.err}, tt.build)
			if text := errText(err); (text == "") != (tt.wantErr == "") || !strings.Contains(text, tt.wantErr) {
				t.Fatalf("error:\n got %s\nwant %s", text, tt.wantErr)
			}
			if _, ok := errors.AsType[*Error](err); err != nil && !ok {
				t.Errorf("%T is no *Error", err)
			}
			if !same(got.GPUs, tt.want) {
				t.Errorf("got %+v, want %+v", got.GPUs, tt.want)
			}
			if (got.Why == "") != (tt.why == "") || !strings.Contains(got.Why, tt.why) {
				t.Errorf("because of %q, want %q", got.Why, tt.why)
			}
			if env := Env(tt.policy, got.GPUs, tt.build); tt.env != nil && !maps.Equal(env, tt.env) {
				t.Errorf("environment %q, want %q", env, tt.env)
			}
		})
	}
}

// None hides the GPUs of all vendors, and unmanaged none.
func TestEnvOfPolicies(t *testing.T) {
	t.Parallel()
	if env := Env(None, nil, Build{Runtime: engine.VendorIntel}); env["ONEAPI_DEVICE_SELECTOR"] != "*:cpu" || env["HIP_VISIBLE_DEVICES"] != "-1" {
		t.Errorf("none: %q", env)
	}
	if env := Env(Unmanaged, []Device{rtx}, Build{}); len(env) != 0 {
		t.Errorf("unmanaged: %q", env)
	}
	for name, want := range map[string]bool{"GGML_VK_VISIBLE_DEVICES": true, "ZE_AFFINITY_MASK": true, "CUDA_HOME": false} {
		if Decides(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

func TestRuntimes(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]engine.Vendor{
		"cu129": engine.VendorNVIDIA, "cuda": engine.VendorNVIDIA, "rocm711": engine.VendorAMD, "hip": engine.VendorAMD,
		"xpu": engine.VendorIntel, "cpu": CPU, "": "", "g1a2b3c": "",
	} {
		if got := RuntimeOf(word); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	for image, want := range map[string]engine.Vendor{
		"vllm/vllm-openai:latest": "", "vllm/vllm-openai-cpu:latest-x86_64": CPU, "rocm/vllm:rocm7.0_mi300": engine.VendorAMD,
		"ghcr.io/ggml-org/llama.cpp:server-cuda": engine.VendorNVIDIA, "ghcr.io/ggml-org/llama.cpp:server-rocm": engine.VendorAMD,
		"lmsysorg/sglang:v0.5.5-cu129": engine.VendorNVIDIA, "example.org/cute/custom:1": "", "intel/vllm:0.10-xpu": engine.VendorIntel,
	} {
		if got := RuntimeOfImage(image); got != want {
			t.Errorf("%q: %q, want %q", image, got, want)
		}
	}
}
