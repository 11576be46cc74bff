package cmake

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Tools are the programs of a build, by absolute path.
type Tools struct {
	Git, CMake string
	CC, CXX    string
	Generator  string // CMake's name for it: "Ninja" or "Unix Makefiles"
	Make       string // ninja or make
	CCache     string // "" where there is none
	NVCC       string // "" where none is needed
	NVCCInPath bool
}

// Need is what a build asks for beside git, cmake and a compiler.
type Need struct {
	CUDA      bool
	Generator string // "ninja", "make", or "" for what there is
	Flags     Flags
}

// Machine is where tools are looked for.
type Machine struct {
	Look func(name string) (string, error) // as exec.LookPath
	Env  func(name string) string
	Root string // of the file system; "" for the real one
}

// MissingError says which tools are not there.
type MissingError struct {
	Tools  []string // such as "cmake"
	Advice string   // how to install them
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("there is no %s; %s", strings.Join(e.Tools, " and no "), e.Advice)
}

// packages are the names of what installs a tool, by the family of the distribution.
var packages = map[string]map[string]string{
	"debian": {"git": "git", "cmake": "cmake", "ninja": "ninja-build", "make": "make", "C compiler": "gcc", "C++ compiler": "g++", "nvcc": "nvidia-cuda-toolkit"},
	"fedora": {"git": "git", "cmake": "cmake", "ninja": "ninja-build", "make": "make", "C compiler": "gcc", "C++ compiler": "gcc-c++", "nvcc": "cuda-toolkit"},
	"suse":   {"git": "git", "cmake": "cmake", "ninja": "ninja", "make": "make", "C compiler": "gcc", "C++ compiler": "gcc-c++", "nvcc": "cuda-toolkit"},
	"arch":   {"git": "git", "cmake": "cmake", "ninja": "ninja", "make": "make", "C compiler": "gcc", "C++ compiler": "gcc", "nvcc": "cuda"},
	"alpine": {"git": "git", "cmake": "cmake", "ninja": "ninja-build", "make": "make", "C compiler": "build-base", "C++ compiler": "build-base"},
}

// install is how each family installs.
var install = map[string]string{
	"debian": "apt-get install", "fedora": "dnf install", "suse": "zypper install", "arch": "pacman -S", "alpine": "apk add",
}

// families tells one by the ID and ID_LIKE of os-release.
var families = map[string]string{
	"debian": "debian", "ubuntu": "debian", "fedora": "fedora", "rhel": "fedora", "centos": "fedora", "amzn": "fedora",
	"suse": "suse", "opensuse": "suse", "sles": "suse", "arch": "arch", "alpine": "alpine",
}

// Find looks for everything that the build needs. Its error is a *MissingError that names all that is not there.
func (m Machine) Find(need Need) (Tools, error) {
	var t Tools
	var missing []string
	find := func(tool string, into *string, names ...string) {
		for _, name := range names {
			if name == "" {
				continue
			}
			if path, err := m.Look(name); err == nil {
				if *into, err = filepath.Abs(path); err == nil {
					return
				}
			}
		}
		if tool != "" {
			missing = append(missing, tool)
		}
	}
	compiler := func(variable, env string) string {
		if value, ok := need.Flags.Value(variable); ok {
			return value
		}
		value, _, _ := strings.Cut(m.Env(env), " ") // "ccache gcc" is allowed there
		return value
	}
	find("git", &t.Git, "git")
	find("cmake", &t.CMake, "cmake")
	find("C compiler", &t.CC, compiler("CMAKE_C_COMPILER", "CC"), "cc", "gcc", "clang")
	find("C++ compiler", &t.CXX, compiler("CMAKE_CXX_COMPILER", "CXX"), "c++", "g++", "clang++")
	find("", &t.CCache, "ccache")
	if need.Generator != "make" {
		tool := ""
		if need.Generator == "ninja" {
			tool = "ninja"
		}
		find(tool, &t.Make, "ninja", "ninja-build")
		t.Generator = "Ninja"
	}
	if t.Make == "" && need.Generator != "ninja" {
		find("make", &t.Make, "make", "gmake")
		t.Generator = "Unix Makefiles"
	}
	if need.CUDA {
		if find("", &t.NVCC, compiler("CMAKE_CUDA_COMPILER", "CUDACXX"), "nvcc"); t.NVCC != "" {
			t.NVCCInPath = true
		} else if t.NVCC = m.nvcc(need.Flags); t.NVCC == "" {
			missing = append(missing, "nvcc")
		}
	}
	if len(missing) == 0 {
		return t, nil
	}
	return t, &MissingError{Tools: missing, Advice: m.advice(missing)}
}

// nvcc is the compiler of a toolkit that is not in PATH, as NVIDIA's packages leave it.
func (m Machine) nvcc(flags Flags) string {
	root, _ := flags.Value("CUDAToolkit_ROOT")
	roots := []string{root, m.Env("CUDA_HOME"), m.Env("CUDA_PATH"), m.Env("CUDA_ROOT"), m.Root + "/usr/local/cuda", m.Root + "/opt/cuda"}
	versions, _ := filepath.Glob(m.Root + "/usr/local/cuda-*")
	slices.SortFunc(versions, newer)
	for _, root := range append(roots, versions...) {
		path := filepath.Join(root, "bin", "nvcc")
		if info, err := os.Stat(path); root != "" && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// newer sorts paths that end in versions, the newest first.
func newer(a, b string) int {
	version := func(s string) (major, minor int) {
		_, _ = fmt.Sscanf(s[strings.LastIndexByte(s, '-')+1:], "%d.%d", &major, &minor)
		return major, minor
	}
	majorA, minorA := version(a)
	majorB, minorB := version(b)
	if majorA != majorB {
		return majorB - majorA
	}
	return minorB - minorA
}

func (m Machine) advice(missing []string) string {
	family := m.Family()
	names := packages[family]
	var list []string
	for _, tool := range missing {
		if name := names[tool]; name != "" && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	advice := "install what is missing"
	if len(list) > 0 {
		advice = fmt.Sprintf("install with %q", install[family]+" "+strings.Join(list, " "))
	}
	if slices.Contains(missing, "nvcc") {
		advice += "; a CUDA toolkit outside of PATH is found by CUDA_HOME"
	}
	return advice
}

// Family is the distribution's, such as "debian"; "" where it is not known.
func (m Machine) Family() string {
	text, err := os.ReadFile(m.Root + "/etc/os-release")
	if err != nil {
		return ""
	}
	found := ""
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for id := range strings.FieldsSeq(strings.Trim(value, `"'`)) {
			if family := families[id]; family != "" && (found == "" || key == "ID") {
				found = family
				break
			}
		}
	}
	return found
}
