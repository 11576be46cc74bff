package node

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

// diagnoses runs Diagnose with a PATH that holds what dir holds.
func diagnoses(t *testing.T, state, path string, gpus gpu.Driver) map[string][]Check {
	t.Helper()
	t.Setenv("PATH", path)
	byName := map[string][]Check{}
	checks := diagnose(t.Context(), state, gpus, []provisioner.Option{provisioner.WithCacheDir(t.TempDir())})
	for _, c := range checks {
		byName[c.Name] = append(byName[c.Name], c)
	}
	return byName
}

func level(checks []Check) CheckLevel {
	for _, l := range []CheckLevel{CheckProblem, CheckWarning, CheckOK} {
		if slices.ContainsFunc(checks, func(c Check) bool { return c.Level == l }) {
			return l
		}
	}
	return ""
}

func TestDiagnoseBareHost(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	got := diagnoses(t, state, t.TempDir(), doctorGPUs{err: errors.New("no driver here")})
	for name, want := range map[string]CheckLevel{
		"engines": CheckWarning, "gpu": CheckWarning, "kernel": CheckOK, "/proc": CheckOK,
	} {
		if l := level(got[name]); l != want {
			t.Errorf("%s is %q, want %q: %+v", name, l, want, got[name])
		}
	}
	if !strings.Contains(got["gpu"][0].Fix, "gpu: none") {
		t.Errorf("the way out of a missing GPU is not told: %+v", got["gpu"])
	}
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("Diagnose has made the state directory: %v", err)
	}
}

func TestDiagnoseGPUs(t *testing.T) {
	got := diagnoses(t, t.TempDir(), t.TempDir(), doctorGPUs{gpus: []gpu.Device{
		{Index: 0, UUID: "GPU-a", Name: "Fine", MemoryTotal: 80 << 30, MemoryFree: 40 << 30},
		{Index: 1, UUID: "GPU-b", Name: "Broken", Problem: "it has fallen off the bus"},
		{Vendor: engine.VendorAMD, PCIBusID: "0000:03:00.0", Name: "Radeon", MemoryTotal: 24 << 30, MemoryFree: 20 << 30, ComputeProblem: "cannot open /dev/kfd"},
		{Vendor: engine.VendorIntel, PCIBusID: "0000:04:00.0", Name: "Arc", MemoryTotal: 12 << 30, MemoryFree: engine.UnknownBytes},
		{Vendor: engine.VendorIntel, Index: 1, PCIBusID: "0000:05:00.0", Name: "Old", MemoryTotal: engine.UnknownBytes, MemoryFree: engine.UnknownBytes},
		{Vendor: engine.VendorIntel, Index: 2, PCIBusID: "0000:00:02.0", Name: "Iris", MemoryTotal: engine.UnknownBytes, MemoryFree: 9 << 30, Unified: true},
		{Vendor: engine.VendorIntel, Index: 3, PCIBusID: "0001:00:02.0", Name: "Iris", MemoryTotal: engine.UnknownBytes, MemoryFree: engine.UnknownBytes, Unified: true},
	}})
	for name, want := range map[string]string{
		"gpu 0 (0000:04:00.0)": "Arc, 12.0 GiB of memory, how much is free is not known",
		"gpu 1 (0000:05:00.0)": "Old, memory not known",
		"gpu 2 (0000:00:02.0)": "Iris, in main memory, of which 9.0 GiB are available",
		"gpu 3 (0001:00:02.0)": "Iris, in main memory",
	} {
		if c := got[name]; level(c) != CheckOK || c[0].Detail != want {
			t.Errorf("%s: %+v, want %q", name, c, want)
		}
	}
	if c := got["gpu 0 (0000:03:00.0)"]; level(c) != CheckWarning || c[0].Detail != "Radeon, 20.0 GiB of 24.0 GiB free; builds for Vulkan can use it, others not: cannot open /dev/kfd" {
		t.Errorf("the one without rights: %+v", c)
	}
	if c := got["gpu 0 (GPU-a)"]; level(c) != CheckOK || c[0].Detail != "Fine, 40.0 GiB of 80.0 GiB free" {
		t.Errorf("the good GPU: %+v", c)
	}
	if c := got["gpu 1 (GPU-b)"]; level(c) != CheckProblem || !strings.Contains(c[0].Detail, "fallen off the bus") || c[0].Fix == "" {
		t.Errorf("the broken GPU: %+v", c)
	}
}

func TestDiagnoseStateDirectory(t *testing.T) {
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := os.Mkdir(filepath.Join(broken, "default-r0"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "default-r0", "record.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, state, check string
		want               CheckLevel
		detail             string
	}{
		{"private", t.TempDir(), "state directory", CheckOK, "writable and private"},
		{"others may write", open, "state directory", CheckProblem, "others may write to it"},
		{"a file", file, "state directory", CheckProblem, "is a regular file"},
		{"a broken record", broken, "replicas", CheckProblem, "cannot read the record"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := diagnoses(t, tt.state, t.TempDir(), doctorGPUs{})[tt.check]
			if level(got) != tt.want || !strings.Contains(got[0].Detail, tt.detail) {
				t.Errorf("got %+v, want %s with %q", got, tt.want, tt.detail)
			}
		})
	}
}

func TestDiagnoseBrokenEngine(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho 'error while loading shared libraries: libggml.so' >&2\nexit 127\n"
	host.Program(t, filepath.Join(dir, "llama-server"), script)
	got := diagnoses(t, t.TempDir(), dir, doctorGPUs{})["engine llamacpp"]
	if level(got) != CheckProblem || !strings.Contains(got[0].Detail, "libggml.so") || got[0].Fix == "" {
		t.Errorf("got %+v", got)
	}
}

// doctorGPUs is a driver that reports what it is told.
type doctorGPUs struct {
	gpus []gpu.Device
	err  error
}

func (d doctorGPUs) GPUs() ([]gpu.Device, error)            { return d.gpus, d.err }
func (d doctorGPUs) Processes([]int) ([]gpu.Holding, error) { return nil, nil }
