package drm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
)

// machine is a tree like that of a real one.
type machine struct {
	t    *testing.T
	tree Tree
	dir  string
	deny map[string]error // by the name below /dev
	n    int              // render nodes so far
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), deny: map[string]error{}}
	m.tree = Tree{Sys: filepath.Join(m.dir, "sys"), Proc: filepath.Join(m.dir, "proc"), Dev: filepath.Join(m.dir, "dev")}
	m.tree.Open = func(path string) error {
		name, err := filepath.Rel(m.tree.Dev, path)
		if err != nil {
			t.Error(err)
		}
		return m.deny[name]
	}
	return m
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.dir, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text+"\n"), 0o644)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) link(path, target string) {
	m.t.Helper()
	path = filepath.Join(m.dir, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
		m.t.Fatal(err)
	}
}

// card adds a device of PCI with a render node, and returns its number.
func (m *machine) card(pci, driver, vendor string, attributes map[string]string) (minor int) {
	m.t.Helper()
	minor = 128 + m.n
	m.n++
	dir := "sys/devices/pci0000:00/" + pci
	m.write(dir+"/vendor", vendor)
	for name, text := range attributes {
		m.write(dir+"/"+name, text)
	}
	m.link(dir+"/driver", "../../../bus/pci/drivers/"+driver)
	m.link(fmt.Sprintf("%s/drm/renderD%d/device", dir, minor), "../..")
	m.link(fmt.Sprintf("sys/class/drm/renderD%d", minor), fmt.Sprintf("../../devices/pci0000:00/%s/drm/renderD%d", pci, minor))
	return minor
}

// kfd adds a node of ROCm.
func (m *machine) kfd(number, minor int, pci string, uniqueID uint64, target int) {
	m.t.Helper()
	dir := fmt.Sprintf("sys/class/kfd/kfd/topology/nodes/%d", number)
	var domain, bus, device, function int
	if _, err := fmt.Sscanf(pci, "%04x:%02x:%02x.%x", &domain, &bus, &device, &function); err != nil {
		m.t.Fatal(err)
	}
	m.write(dir+"/gpu_id", fmt.Sprint(1000+number))
	m.write(dir+"/properties", fmt.Sprintf("cpu_cores_count 0\nvendor_id 4098\ndrm_render_minor %d\ngfx_target_version %d\nunique_id %d\ndomain %d\nlocation_id %d",
		minor, target, uniqueID, domain, bus<<8|device<<3|function))
	m.write(dir+"/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 25753026560")
}

// processor adds the node that every machine has first.
func (m *machine) processor() {
	m.write("sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 16\nvendor_id 0\ndrm_render_minor 0")
}

func discrete(used string) map[string]string {
	return map[string]string{
		"device": "0x744c", "mem_info_vram_total": "25753026560", "mem_info_vram_used": used, "mem_info_gtt_total": "33543639040",
		"mem_info_vram_vendor": "samsung", "unique_id": "5f1c0a2b3d4e6f70",
	}
}

const (
	vram24 = engine.Bytes(25753026560)
	card0  = "0000:03:00.0"
)

func (m *machine) want(want ...engine.GPU) {
	m.t.Helper()
	got := m.tree.GPUs()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			m.t.Errorf("missing: %+v", want[i])
		case i >= len(want):
			m.t.Errorf("too many: %+v", got[i])
		case !reflect.DeepEqual(got[i], want[i]):
			m.t.Errorf("GPU %d:\ngot  %+v\nwant %+v", i, got[i], want[i])
		}
	}
}

func radeon() engine.GPU {
	return engine.GPU{
		Vendor: engine.VendorAMD, UUID: "GPU-5F1C0A2B3D4E6F70", Name: "AMD GPU gfx1100 [1002:744c]", PCIBusID: card0,
		MemoryTotal: vram24, MemoryFree: vram24 - 1<<30, Render: "/dev/dri/renderD128",
	}
}

func TestNoGPU(t *testing.T) {
	t.Parallel()
	newMachine(t).want() // WSL2 and Jetson have no such tree either
}

func TestOneRadeon(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.processor()
	m.kfd(1, m.card(card0, "amdgpu", pciAMD, discrete("1073741824")), card0, 0x5f1c0a2b3d4e6f70, 110000)
	m.want(radeon())
}

func TestEightInstincts(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.processor()
	var want []engine.GPU
	for i := range 8 {
		pci := fmt.Sprintf("0000:%02x:00.0", 0x83-0x10*i) // ROCm's order is not that of PCI
		minor := m.card(pci, "amdgpu", pciAMD, map[string]string{
			"device": "0x74a1", "product_name": "AMD Instinct MI300X OAM", "mem_info_vram_total": "206141652992", "mem_info_vram_used": "0",
			"mem_info_gtt_total": "1081936044032", "mem_info_vram_vendor": "hynix",
		})
		m.kfd(i+2, minor, pci, uint64(0xa0+i), 90402)
		want = append(want, engine.GPU{
			Vendor: engine.VendorAMD, Index: i, UUID: fmt.Sprintf("GPU-%016X", 0xa0+i), Name: "AMD Instinct MI300X OAM", PCIBusID: pci,
			MemoryTotal: 206141652992, MemoryFree: 206141652992, Render: fmt.Sprintf("/dev/dri/renderD%d", minor),
		})
	}
	m.want(want...)
}

// The groups of devices of a container let it have one of two cards: the properties of the other cannot be read.
func TestCardOfAnotherContainer(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.processor()
	m.card("0000:43:00.0", "amdgpu", pciAMD, discrete("0"))
	m.write("sys/class/kfd/kfd/topology/nodes/1/properties", "")
	m.deny["dri/renderD128"] = syscall.EPERM
	m.kfd(2, m.card(card0, "amdgpu", pciAMD, discrete("1073741824")), card0, 0x5f1c0a2b3d4e6f70, 110000)
	mine := radeon()
	mine.Render = "/dev/dri/renderD129"
	other := engine.GPU{
		Vendor: engine.VendorAMD, Index: 1, Name: "AMD GPU [1002:744c]", PCIBusID: "0000:43:00.0",
		MemoryTotal: vram24, MemoryFree: vram24, Render: "/dev/dri/renderD128",
		Problem:        "this container may not open /dev/dri/renderD128; pass that device in",
		ComputeProblem: "the kernel does not offer it to ROCm (it is not in /sys/class/kfd)",
	}
	// They were given the same id by this test: it names none of them.
	mine.UUID = ""
	m.want(mine, other)
}

func TestAPU(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.processor()
	minor := m.card("0000:c5:00.0", "amdgpu", pciAMD, map[string]string{
		"device": "0x1586", "mem_info_vram_total": "536870912", "mem_info_vram_used": "400000000", "mem_info_gtt_total": "66000000000",
	})
	m.kfd(1, minor, "0000:c5:00.0", 0, 110501)
	m.want(engine.GPU{
		Vendor: engine.VendorAMD, Name: "AMD GPU gfx1151 [1002:1586]", PCIBusID: "0000:c5:00.0", MemoryTotal: engine.UnknownBytes,
		MemoryFree: engine.UnknownBytes, Unified: true, Render: "/dev/dri/renderD128",
	})
}

// A card in compute partitions is several nodes with one address, and may tell one id for all.
func TestPartitions(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.processor()
	minor := m.card(card0, "amdgpu", pciAMD, discrete("0"))
	m.kfd(1, minor, card0, 7, 90402)
	m.link("sys/class/drm/renderD129/device", "../../../devices/platform/amdgpu_xcp_1")
	m.write("sys/devices/platform/amdgpu_xcp_1/uevent", "")
	m.kfd(2, 129, card0, 7, 90402)
	part := engine.GPU{
		Vendor: engine.VendorAMD, Name: "AMD GPU gfx942 [1002:744c], a partition", PCIBusID: card0, MemoryTotal: vram24,
		MemoryFree: engine.UnknownBytes, Render: "/dev/dri/renderD128",
	}
	second := part
	second.Index, second.Render = 1, "/dev/dri/renderD129"
	m.want(part, second)
}

func TestIntel(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.card("0000:00:02.0", "i915", pciIntel, map[string]string{"device": "0xa780"})
	m.card(card0, "xe", pciIntel, map[string]string{
		"device": "0xe20b", "tile0/physical_vram_size_bytes": "0x2f8000000", "tile1/physical_vram_size_bytes": "0x2f8000000",
	})
	m.card("0000:0a:00.0", "i915", pciIntel, map[string]string{"device": "0x56a0"})
	unknown := engine.UnknownBytes
	m.want(
		engine.GPU{Vendor: engine.VendorIntel, Name: "Intel GPU [8086:a780]", PCIBusID: "0000:00:02.0", MemoryTotal: unknown, MemoryFree: unknown, Unified: true, Render: "/dev/dri/renderD128"},
		engine.GPU{Vendor: engine.VendorIntel, Index: 1, Name: "Intel GPU [8086:e20b]", PCIBusID: card0, MemoryTotal: 2 * 0x2f8000000, MemoryFree: unknown, Render: "/dev/dri/renderD129"},
		engine.GPU{Vendor: engine.VendorIntel, Index: 2, Name: "Intel GPU [8086:56a0]", PCIBusID: "0000:0a:00.0", MemoryTotal: unknown, MemoryFree: unknown, Render: "/dev/dri/renderD130"},
	)
}

// Cards of others, such as the one of NVIDIA or of a server's console, are not told here.
func TestMixed(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.card("0000:01:00.0", "nvidia", "0x10de", map[string]string{"device": "0x2684"})
	m.processor()
	m.kfd(1, m.card(card0, "amdgpu", pciAMD, discrete("1073741824")), card0, 0x5f1c0a2b3d4e6f70, 110000)
	m.card("0000:00:02.0", "i915", pciIntel, map[string]string{"device": "0xa780"})
	amd := radeon()
	amd.Render = "/dev/dri/renderD129"
	m.want(amd, engine.GPU{
		Vendor: engine.VendorIntel, Name: "Intel GPU [8086:a780]", PCIBusID: "0000:00:02.0",
		MemoryTotal: engine.UnknownBytes, MemoryFree: engine.UnknownBytes, Unified: true, Render: "/dev/dri/renderD130",
	})
}

// A user in none of the groups is told which one; without /dev/kfd alone, a card is of use to Vulkan.
func TestRights(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		file             string
		err              error
		problem, compute string
	}{
		"no right to ROCm":  {"kfd", fs.ErrPermission, "", "cannot open /dev/kfd; "},
		"no ROCm":           {"kfd", fs.ErrNotExist, "", "there is no /dev/kfd here; a container needs it passed in"},
		"no right to it":    {"dri/renderD128", fs.ErrPermission, "cannot open /dev/dri/renderD128; ", ""},
		"not the container": {"dri/renderD128", syscall.EPERM, "this container may not open /dev/dri/renderD128; pass that device in", ""},
		"broken":            {"dri/renderD128", syscall.EIO, "cannot open /dev/dri/renderD128: input/output error", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.kfd(1, m.card(card0, "amdgpu", pciAMD, discrete("0")), card0, 1, 110000)
			m.deny[tt.file] = tt.err
			got := m.tree.GPUs()
			if len(got) != 1 || !strings.Contains(got[0].Problem, tt.problem) || !strings.Contains(got[0].ComputeProblem, tt.compute) ||
				(tt.problem == "") != (got[0].Problem == "") || (tt.compute == "") != (got[0].ComputeProblem == "") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// The group of a device file that has one is what helps.
func TestRemedy(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root may give files to groups")
	}
	m := newMachine(t)
	for name, tt := range map[string]struct {
		gid  int
		mode fs.FileMode
		want string
	}{
		"a named group":    {44, 0o660, `add it to the group video ("usermod -aG video USER")`},
		"one without name": {4242, 0o660, "run this with the group 4242, which has no name here"},
		"of root alone":    {44, 0o600, "give this user the right to read and write it"},
	} {
		m.write("dev/"+name, "")
		path := filepath.Join(m.tree.Dev, name)
		if err := errors.Join(os.Chown(path, 0, tt.gid), os.Chmod(path, tt.mode)); err != nil {
			t.Fatal(err)
		}
		if got := remedy(path); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestOpenDevice(t *testing.T) {
	t.Parallel()
	if err := openDevice(os.DevNull); err != nil {
		t.Error(err)
	}
	if err := openDevice(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestSystem asks the machine of the test: whatever there is, each GPU has an address or a reason.
func TestSystem(t *testing.T) {
	t.Parallel()
	for _, g := range System().GPUs() {
		if t.Logf("%+v", g); g.PCIBusID == "" && g.Problem == "" {
			t.Errorf("%+v", g)
		}
	}
	if held := System().Held([]int{os.Getpid()}); len(held) > 0 {
		t.Errorf("this test holds memory of GPUs: %v", held)
	}
}

func TestIsPCIAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"0000:3b:00.0": true, "10000:e1:00.0": true, "0000:3B:00.0": false, "3b:00.0": false, "": false, "0000:3b:00": false,
		"0000:3b:00.00": false, "0000:zz:00.0": false, "amdgpu_xcp_30": false, "0000-3b-00.0-": false, "unknown id..": false,
	} {
		if IsPCIAddress(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
