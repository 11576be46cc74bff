package cmake

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCurrent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flags, want string
		cuda        bool
	}{
		{"-DGGML_CUDA=ON", "-DGGML_CUDA=ON", true},
		{"-DLLAMA_CUBLAS=on -DGGML_CUDA_F16=ON", "-DGGML_CUDA=on -DGGML_CUDA_F16=ON", true},
		{"-D LLAMA_CUDA:BOOL=1", "-DGGML_CUDA:BOOL=1", true},
		{"-DLLAMA_CUDA=ON -DGGML_CUDA=OFF", "-DGGML_CUDA=ON -DGGML_CUDA=OFF", false},
		{"-DLLAMA_CUDA_F16=ON -Wno-dev", "-DLLAMA_CUDA_F16=ON -Wno-dev", false},
		{"-DGGML_CUDA", "-DGGML_CUDA", false},
		{"-D", "-D", false},
		{"", "", false},
	} {
		got := Current(strings.Fields(c.flags))
		if strings.Join(got, " ") != c.want || got.On("GGML_CUDA") != c.cuda {
			t.Errorf("%s: %q, CUDA %v", c.flags, got, got.On("GGML_CUDA"))
		}
	}
	if value, ok := (Flags{"-DA=1", "-DB=2=3", "-DA:STRING=x"}).Value("A"); value != "x" || !ok {
		t.Errorf("%q, %v", value, ok)
	}
	if _, ok := (Flags{"-DAB=1"}).Value("A"); ok {
		t.Error("AB is taken for A")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, good := range [][2]string{{"", "-DX=ON"}, {"", "-D"}, {"-D", "X=1"}, {"", "-Wno-dev"}, {"", "--fresh"}, {"", "-UX"}, {"", "-C"}} {
		if wrong := Check(good[0], good[1]); wrong != "" {
			t.Errorf("%q: %s", good, wrong)
		}
	}
	for _, bad := range [][2]string{
		{"", "X=ON"},
		{"", ""},
		{"", "-"},
		{"-D", "-DX"},
		{"-D", ""},
		{"", "-S"},
		{"", "-B/tmp"},
		{"", "-GNinja"},
		{"", "-P"},
		{"", "-Erm"},
		{"", "--build"},
		{"", "--install"},
		{"", "--help"},
		{"", "-DX=\x00"},
	} {
		if Check(bad[0], bad[1]) == "" {
			t.Errorf("%q is taken", bad)
		}
	}
}

// machine is one with programs in PATH and files below a root.
func machine(t *testing.T, programs string, files map[string]string) Machine {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	return Machine{
		Root: root, Env: func(string) string { return "" },
		Look: func(name string) (string, error) {
			if slices.Contains(strings.Fields(programs), name) {
				return "/bin/" + name, nil
			}
			return "", os.ErrNotExist
		},
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	m := machine(t, "git cmake gcc g++ make ccache", map[string]string{
		"/usr/local/cuda-9.2/bin/nvcc": "", "/usr/local/cuda-12.10/bin/nvcc": "", "/usr/local/cuda-12.9/bin/nvcc": "",
	})
	tools, err := m.Find(Need{CUDA: true})
	want := Tools{
		Git: "/bin/git", CMake: "/bin/cmake", CC: "/bin/gcc", CXX: "/bin/g++", Generator: "Unix Makefiles", Make: "/bin/make",
		CCache: "/bin/ccache", NVCC: m.Root + "/usr/local/cuda-12.10/bin/nvcc",
	}
	if err != nil || tools != want {
		t.Errorf("%+v, %v", tools, err)
	}
	m = machine(t, "git cmake cc c++ make ninja nvcc clang", nil)
	if tools, err = m.Find(Need{CUDA: true, Flags: Flags{"-DCMAKE_C_COMPILER=clang"}}); err != nil || tools.Generator != "Ninja" || !tools.NVCCInPath || tools.CC != "/bin/clang" {
		t.Errorf("%+v, %v", tools, err)
	}
	if tools, err = m.Find(Need{Generator: "make"}); err != nil || tools.Generator != "Unix Makefiles" || tools.NVCC != "" {
		t.Errorf("%+v, %v", tools, err)
	}
	m.Env = func(name string) string {
		return map[string]string{"CC": "cc -m32", "CUDA_HOME": m.Root + "/toolkit"}[name]
	}
	if tools, err = m.Find(Need{}); err != nil || tools.CC != "/bin/cc" {
		t.Errorf("%+v, %v", tools, err)
	}
}

// What is missing is told all at once, with the names that this distribution knows it by.
func TestMissing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ release, programs, want string }{
		{"ID=debian\n", "", `there is no git and no cmake and no C compiler and no C++ compiler and no make and no nvcc; install with "apt-get install git cmake gcc g++ make nvidia-cuda-toolkit"`},
		{"NAME=Mint\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "git cmake cc make", `there is no C++ compiler and no nvcc; install with "apt-get install g++ nvidia-cuda-toolkit"`},
		{"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "git make gcc nvcc", `there is no cmake and no C++ compiler; install with "dnf install cmake gcc-c++"`},
		{"ID=arch\n", "git cmake make nvcc", `there is no C compiler and no C++ compiler; install with "pacman -S gcc"`},
		{"ID=opensuse-leap\nID_LIKE=\"suse opensuse\"\n", "cmake cc c++ make nvcc", `there is no git; install with "zypper install git"`},
		{"ID=slackware\n", "git cc c++ make nvcc", "there is no cmake; install what is missing"},
	} {
		_, err := machine(t, c.programs, map[string]string{"/etc/os-release": c.release}).Find(Need{CUDA: true})
		var missing *MissingError
		if !errors.As(err, &missing) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.release, err, c.want)
		}
	}
	_, err := machine(t, "git cmake cc c++ make", nil).Find(Need{Generator: "ninja"})
	if err == nil || !strings.Contains(err.Error(), "there is no ninja") {
		t.Errorf("%v", err)
	}
}

func TestBuildProgress(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][2]int64{
		"[12/345] Building CXX object x.cpp.o": {12, 345}, "[  7%] Building CXX object x.cpp.o": {7, 100}, "[100%] Built target x": {100, 100},
	} {
		if done, total, ok := BuildProgress(line); !ok || done != want[0] || total != want[1] {
			t.Errorf("%s: %d of %d, %v", line, done, total, ok)
		}
	}
	for _, line := range []string{"", "[1/2]", "-- Configuring done", " [1/2] x"} {
		if _, _, ok := BuildProgress(line); ok {
			t.Errorf("%q is progress", line)
		}
	}
}

func TestFirstError(t *testing.T) {
	t.Parallel()
	for want, lines := range map[string][]string{
		"/s/x.c:3:9: error: 'y' undeclared (first use in this function)": {
			"[1/9] Building C object x.o", "FAILED: x.o", "/s/x.c: In function 'f':",
			"/s/x.c:3:9: error: 'y' undeclared (first use in this function)", "    3 |  return y;", "ninja: build stopped: subcommand failed.",
		},
		"CMake Error at CMakeLists.txt:186 (message): LLAMA_CUBLAS is deprecated, use GGML_CUDA instead": {
			"-- The C compiler identification is GNU", "CMake Error at CMakeLists.txt:186 (message):",
			"  LLAMA_CUBLAS is deprecated,", "  use GGML_CUDA instead", "Call Stack (most recent call first):", "-- Configuring incomplete, errors occurred!",
		},
		"c++: fatal error: Killed signal terminated program cc1plus":                        {"c++: fatal error: Killed signal terminated program cc1plus", "make: *** [x] Error 1"},
		"/usr/bin/ld: x.o: in function `main': x.c:(.text+0x5): undefined reference to `y'": {"/usr/bin/ld: x.o: in function `main': x.c:(.text+0x5): undefined reference to `y'", "collect2: error: ld returned 1 exit status"},
		"nvcc fatal   : Unsupported gpu architecture 'compute_20'":                          {"nvcc fatal   : Unsupported gpu architecture 'compute_20'"},
		"ninja: error: unknown target 'nothing'":                                            {"ninja: error: unknown target 'nothing'"},
		"":                                                                                  {"all is well", "-- Looking for error.h - found"},
	} {
		if got := FirstError(lines); got != want {
			t.Errorf("%q\nwant %q", got, want)
		}
	}
}

// The errors are those of CMake 3.25 and nvcc 13.5 with llama.cpp b11434, on a machine without a GPU.
func TestRemedy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"c++: fatal error: Killed signal terminated program cc1plus":                                                                                 `set "jobs" to a lower number`,
		"CMake Error in ggml/src/ggml-cuda/CMakeLists.txt:\n  CUDA_ARCHITECTURES is set to \"native\", but no GPU was detected.\n\n\nCMake Error at": "-DCMAKE_CUDA_ARCHITECTURES=86",
		"CMake Error at ggml/src/ggml-cuda/CMakeLists.txt:181 (target_link_libraries):\n  Target \"ggml-cuda\" links to:\n\n    CUDA::cuda_driver\n\n" +
			"  but the target was not found.  Possible reasons include:\n\n    * There is a typo in the target name.\n": "-DGGML_CUDA_NO_VMM=ON",
		"/usr/bin/ld: cannot find -lcuda: No such file or directory":   "-DGGML_CUDA_NO_VMM=ON",
		"/usr/bin/ld: cannot find -lcudart: No such file or directory": "",
		"x.c:1:1: error: memory": "",
	} {
		first := FirstError(strings.Split(text, "\n"))
		if got := Remedy(first); first == "" || (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", first, got, want)
		}
	}
}

func TestHostCompilers(t *testing.T) {
	t.Parallel()
	got := HostCompilers([]string{
		"x", "/usr/include/crt/host_config.h:137:2: error: #error -- unsupported GNU version! gcc versions later than 12 are not supported! The nvcc flag",
	})
	if want := []string{"g++-12", "g++-11", "g++-10", "g++-9", "g++-8", "g++-7"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	got = HostCompilers([]string{"#error -- unsupported clang version! clang versions later than 18 are not supported!"})
	if len(got) == 0 || got[0] != "clang++-18" {
		t.Errorf("%q", got)
	}
	if got := HostCompilers([]string{"error: no"}); got != nil {
		t.Errorf("%q", got)
	}
}

func TestUnused(t *testing.T) {
	t.Parallel()
	got := Unused([]string{"CMake Warning:", "  Manually-specified variables were not used by the project:", "    GGML_CUDAA", "    X", "-- Build files have been written to: /b"})
	if !slices.Equal(got, []string{"GGML_CUDAA", "X"}) {
		t.Errorf("%q", got)
	}
}

// FuzzOutput: whatever a build prints is read without a panic, and what is found stands in it.
func FuzzOutput(f *testing.F) {
	f.Add("CMake Error at x:\n  text\n\nninja: error: y\n")
	f.Add("unsupported GNU version! gcc versions later than 99999999999999999999 are")
	f.Add("Manually-specified variables were not used by the project:\n\n A\n")
	f.Add("[99999999999999999999/1] x")
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Split(text, "\n")
		if first := FirstError(lines); first != "" && !strings.Contains(text, strings.Fields(first)[0]) {
			t.Errorf("%q is not in %q", first, text)
		}
		if len(HostCompilers(lines)) > 6 {
			t.Error("too many compilers")
		}
		for _, name := range Unused(lines) {
			if name == "" {
				t.Error("an empty name")
			}
		}
		for _, line := range lines {
			if done, total, ok := BuildProgress(line); ok && (done < 0 || total < 0) {
				t.Errorf("%q: %d of %d", line, done, total)
			}
		}
	})
}
