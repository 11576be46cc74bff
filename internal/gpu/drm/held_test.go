package drm

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// open adds an open device file to a process.
func (m *machine) open(pid, fd int, target, info string) {
	m.t.Helper()
	m.link(fmt.Sprintf("proc/%d/fd/%d", pid, fd), target)
	m.write(fmt.Sprintf("proc/%d/fdinfo/%d", pid, fd), "pos:\t0\nflags:\t02100002\n"+info)
}

func clientOf(driver, pci string, id int, memory string) string {
	return fmt.Sprintf("drm-driver:\t%s\ndrm-client-id:\t%d\ndrm-pdev:\t%s\n%s\n", driver, id, pci, memory)
}

func TestHeld(t *testing.T) {
	t.Parallel()
	const render, integrated = "/dev/dri/renderD128", "0000:c5:00.0"
	m := newMachine(t)
	m.kfd(1, m.card(card0, "amdgpu", pciAMD, discrete("0")), card0, 1, 110000)
	m.card(integrated, "amdgpu", pciAMD, map[string]string{"mem_info_vram_total": "536870912", "mem_info_gtt_total": "66000000000"})

	m.open(10, 5, render, clientOf("amdgpu", card0, 7, "drm-total-vram:\t90000 KiB\ndrm-resident-vram:\t81920 KiB\ndrm-total-gtt:\t99 KiB"))
	m.open(10, 6, render, clientOf("amdgpu", card0, 7, "drm-resident-vram:\t81920 KiB")) // duplicated
	m.open(10, 7, render, clientOf("amdgpu", card0, 8, "drm-memory-vram:\t1 MiB"))       // another, under the old name
	m.open(10, 8, "/dev/null", clientOf("amdgpu", card0, 9, "drm-memory-vram:\t4 MiB"))  // none of a GPU
	m.open(10, 9, render, "drm-driver:\tamdgpu\ndrm-memory-vram:\t4 MiB\n")              // which says of no card
	m.open(11, 3, render, clientOf("amdgpu", integrated, 1, "drm-memory-vram:\t10 MiB\ndrm-memory-gtt:\t200 MiB\ndrm-memory-cpu: 0 KiB"))
	m.open(12, 3, render, clientOf("xe", "0000:04:00.0", 1, "drm-total-vram0:\t64 MiB\ndrm-resident-vram0:\t0\ndrm-total-system:\t9 MiB"))
	m.open(13, 3, render, clientOf("i915", "0000:05:00.0", 1, "drm-total-local0:\t33554432\ndrm-total-system0:\t9 MiB"))
	m.open(14, 3, render, "pdev:\t"+card0+"\nvram mem:\t2048 kB\ndrm-pdev:\t"+card0)
	// ROCm counts more for the first process, and something for one without an open file that can be seen.
	m.write("sys/class/kfd/kfd/proc/10/vram_1001", "1073741824")
	m.write("sys/class/kfd/kfd/proc/15/vram_1001", "4096")
	m.write("sys/class/kfd/kfd/proc/16/vram_1001", "0")

	got := m.tree.Held([]int{10, 11, 12, 13, 14, 15, 16, 17})
	want := []Held{
		{10, card0, 1 << 30}, {11, integrated, 210 << 20}, {13, "0000:05:00.0", 32 << 20}, {14, card0, 2 << 20}, {15, card0, 4096},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := m.tree.Held([]int{10}); got[0].Bytes != 1<<30 {
		t.Errorf("got %v", got)
	}
}

// Whatever a driver writes, no client holds more than the lines say.
func FuzzParseClient(f *testing.F) {
	f.Add([]byte(clientOf("amdgpu", card0, 7, "drm-total-vram:\t90000 KiB\ndrm-resident-vram:\t81920 KiB")))
	f.Add([]byte("vram mem:\t2048 kB\ndrm-pdev:\t0000:03:00.0\n"))
	f.Add([]byte("drm-memory-vram:\t18446744073709551615 MiB\ndrm-memory-:\n:\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, ok := parseClient(data)
		if ok != IsPCIAddress(c.pci) {
			t.Errorf("%q: %v, %v", data, c, ok)
		}
		if lines := uint64(bytes.Count(data, []byte("\n")) + 1); lines < 1<<10 && c.own+c.system > lines<<50 {
			t.Errorf("%q: %v", data, c)
		}
	})
}

func FuzzProperties(f *testing.F) {
	f.Add("vendor_id 4098\ndrm_render_minor 128\ngfx_target_version 110000\nunique_id 7\ndomain 0\nlocation_id 768")
	f.Add("vendor_id 4098\ndrm_render_minor 18446744073709551615\nlocation_id 18446744073709551615\ngfx_target_version 99999999")
	f.Fuzz(func(t *testing.T, text string) {
		m := newMachine(t)
		m.write("sys/class/kfd/kfd/topology/nodes/1/properties", text)
		for _, n := range m.tree.nodes() {
			if n.render == "renderD0" || n.render == "" {
				t.Errorf("%q: %+v", text, n)
			}
		}
		m.tree.GPUs()
	})
}
