package binary

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

// listing is a program that can be asked for its devices, which are the first word of what it prints.
var listing = engine.Program{
	Command: "engine", DevicesArgs: []string{"--list-devices"},
	ParseDevices: func(output string) ([]engine.GPU, string) {
		name, words, _ := strings.Cut(strings.TrimSpace(output), " ")
		switch name {
		case "unknown":
			return nil, ""
		case "none":
			return []engine.GPU{}, words
		}
		return []engine.GPU{{Name: name, MemoryTotal: 1 << 30, MemoryFree: engine.UnknownBytes, Backends: []string{name}}}, words
	},
}

// An answer with devices is kept for as long as the machine, the program and its variables are the same; one without is not,
// as a driver may have come since.
func TestDevices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, asked, says := filepath.Join(dir, "engine"), filepath.Join(dir, "asked"), filepath.Join(dir, "says")
	host.Program(t, path, fmt.Sprintf("#!/bin/sh\n[ \"$1\" = --list-devices ] || exit 2\necho x >>'%s'\ncat '%s'\n", asked, says))
	b := engine.Binary{Path: path, Digest: "d", Flags: engine.FlagSet{Defs: []engine.FlagDef{{Names: []string{"--list-devices"}}}}}
	i := Inspector{Dir: filepath.Join(dir, "cache")}
	times := 0
	ask := func(b engine.Binary, env map[string]string, machine, text, want string, more int) {
		t.Helper()
		if err := os.WriteFile(says, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		listed, words, err := i.Devices(t.Context(), b, listing, env, machine)
		got := fmt.Sprintf("%d %q", len(listed), words)
		if listed == nil {
			got = "nothing"
		}
		data, readErr := os.ReadFile(asked)
		times += more
		if err != nil || got != want || strings.Count(string(data), "x") != times || readErr != nil && times > 0 {
			t.Errorf("%q: %s (%v), asked %d times, want %s, asked %d times", text, got, err, strings.Count(string(data), "x"), want, times)
		}
	}
	ask(b, nil, "one", "none it failed", `0 "it failed"`, 1)
	ask(b, nil, "one", "CUDA0", `1 ""`, 1)
	ask(b, nil, "one", "none", `1 ""`, 0)
	ask(b, nil, "another", "none", `0 ""`, 1)
	ask(b, map[string]string{"GGML_VK_VISIBLE_DEVICES": "1"}, "one", "Vulkan0", `1 ""`, 1)
	ask(b, nil, "one", "unknown", `1 ""`, 0)
	changed := b
	changed.Digest = "e"
	ask(changed, nil, "one", "unknown", "nothing", 1)
	ask(engine.Binary{Path: path, Digest: "f"}, nil, "one", "CUDA0", "nothing", 0) // its help does not list the flag

	if err := os.Remove(says); err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.Devices(t.Context(), changed, listing, nil, "one"); err == nil {
		t.Error("an executable that fails has answered")
	}
	if _, err := os.Stat(filepath.Join(i.Dir, i.devicesKey(b, listing, nil, "one")+".json")); errors.Is(err, os.ErrNotExist) {
		t.Error("nothing was kept")
	}
}

func TestAccelerator(t *testing.T) {
	t.Parallel()
	const torch = "from typing import Optional\n\n__version__ = '2.13.0'\ncuda: Optional[str] = %s\nhip: Optional[str] = %s\nxpu: Optional[str] = %s\n"
	program := engine.Program{Command: "vllm", Distribution: "vllm"}
	for name, tt := range map[string]struct {
		version, torch, want string
	}{
		"CUDA":                          {"0.32.0+cu129", "", "cu129"},
		"ROCm":                          {"0.32.0+rocm711", "", "rocm711"},
		"XPU":                           {"0.32.0+xpu", "", "xpu"},
		"CPU, whatever torch is for":    {"0.32.0+cpu", fmt.Sprintf(torch, "'13.0'", "None", "None"), "cpu"},
		"a build from source":           {"0.32.1.dev3+g1a2b3c4.rocm700", "", "rocm700"},
		"a build from source, by torch": {"0.32.1.dev3+g1a2b3c4", fmt.Sprintf(torch, "None", "'7.0.5'", "None"), "hip"},
		"torch for CUDA":                {"0.32.0", fmt.Sprintf(torch, "'13.0'", "None", "None"), "cuda"},
		"torch for XPU":                 {"0.5.23", fmt.Sprintf(torch, "None", "None", "'20250101'"), "xpu"},
		"torch for the CPU":             {"0.5.23", fmt.Sprintf(torch, "None", "None", "None"), "cpu"},
		"no torch":                      {"0.32.0", "", ""},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "bin", "vllm")
		packages := filepath.Join(dir, "lib", "python3.12", "site-packages", "torch")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("#!/usr/bin/python3\n"), 0o700)); err != nil {
			t.Fatal(err)
		}
		if tt.torch != "" {
			if err := errors.Join(os.MkdirAll(packages, 0o700), os.WriteFile(filepath.Join(packages, "version.py"), []byte(tt.torch), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if got := (Inspector{}).Accelerator(engine.Binary{Path: path, Version: tt.version}, program); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if got := (Inspector{}).Accelerator(engine.Binary{Path: "/bin/x", Version: "1+cu1"}, engine.Program{}); got != "" {
		t.Errorf("no Python program: %q", got)
	}
}
