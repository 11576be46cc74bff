package cmake

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

var (
	ninjaLine = lazyregexp.New(`^\[(\d+)/(\d+)\] `)
	makeLine  = lazyregexp.New(`^\[ *(\d+)%\] `)
)

// BuildProgress reads how far a build is from a line of its output: parts done of parts in all, or percent of 100.
func BuildProgress(line string) (done, total int64, ok bool) {
	if m := ninjaLine.FindStringSubmatch(line); m != nil {
		done, _ = strconv.ParseInt(m[1], 10, 64)
		total, _ = strconv.ParseInt(m[2], 10, 64)
		return done, total, true
	}
	if m := makeLine.FindStringSubmatch(line); m != nil {
		done, _ = strconv.ParseInt(m[1], 10, 64)
		return done, 100, true
	}
	return 0, 0, false
}

// failures are what compilers, linkers and CMake begin their errors with.
var failures = lazyregexp.New(`^CMake Error|: (fatal )?error[: ]|^(fatal )?error: |: error #|#error |nvcc fatal|ptxas fatal` +
	`|undefined reference to|cannot find -l|^ninja: error|^make.*\*\*\* |No space left on device|Killed signal|internal compiler error`)

// FirstError is the first error in the output of a configuration or a build; "" where none is known. A message of CMake's
// goes on in the lines below, which are indented or empty.
func FirstError(lines []string) string {
	for i, line := range lines {
		if !failures.MatchString(line) {
			continue
		}
		text := strings.TrimSpace(line)
		if strings.HasPrefix(line, "CMake Error") {
			for _, more := range lines[i+1 : min(len(lines), i+6)] {
				if more != "" && !strings.HasPrefix(more, "  ") {
					break
				}
				text = strings.TrimSpace(text + " " + strings.TrimSpace(more))
			}
		}
		return text
	}
	return ""
}

// remedies are what can be done about errors that do not say it themselves.
var remedies = []struct {
	error *lazyregexp.Regexp
	do    string
}{
	{
		lazyregexp.New(`Killed signal|virtual memory exhausted|Cannot allocate memory|out of memory allocating`),
		`the machine is out of memory: set "jobs" to a lower number`,
	},
	{
		// CMake's words, and those of nvcc.
		lazyregexp.New(`CUDA_ARCHITECTURES is set to "native", but no GPU was detected|Cannot find valid GPU for '-arch=native'`),
		`this machine has no GPU to build for: name one's architecture in "cmake_flags", such as "-DCMAKE_CUDA_ARCHITECTURES=86"`,
	},
	{
		// llama.cpp links it for its memory pool (ggml/src/ggml-cuda/CMakeLists.txt).
		lazyregexp.New(`links to: CUDA::cuda_driver but the target was not found|cannot find -lcuda\b`),
		`the CUDA toolkit has no "stubs/libcuda.so", which stands for the driver's library in a build: install it (NVIDIA's package ` +
			`cuda-driver-dev), or add "-DGGML_CUDA_NO_VMM=ON" to "cmake_flags"`,
	},
}

// Remedy is what to do about an error that [FirstError] has found; "" where the error has to do.
func Remedy(first string) string {
	for _, r := range remedies {
		if r.error.MatchString(first) {
			return r.do
		}
	}
	return ""
}

// tooNew is nvcc's refusal of a host compiler (crt/host_config.h).
var tooNew = lazyregexp.New(`unsupported (GNU|clang) version! (?:gcc|clang) versions? later than (\d+)`)

// HostCompilers are the names of compilers that nvcc would take, the newest first, where it has refused the present one.
func HostCompilers(lines []string) []string {
	text := strings.Join(strings.Fields(strings.Join(lines, " ")), " ") // CMake wraps what it quotes
	m := tooNew.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	name := "g++"
	if m[1] == "clang" {
		name = "clang++"
	}
	newest, _ := strconv.Atoi(m[2])
	var names []string
	for v := newest; v > 0 && v > newest-6; v-- {
		names = append(names, fmt.Sprintf("%s-%d", name, v))
	}
	return names
}

// unused is CMake's remark on definitions that no project has looked at.
const unused = "Manually-specified variables were not used by the project:"

// Unused are the variables that the project does not know.
func Unused(lines []string) []string {
	for i, line := range lines {
		if !strings.Contains(line, unused) {
			continue
		}
		var names []string
		for _, name := range lines[i+1:] {
			name = strings.TrimSpace(name)
			if name == "" && len(names) == 0 {
				continue
			}
			if name == "" || strings.ContainsAny(name, " -") {
				break
			}
			names = append(names, name)
		}
		return names
	}
	return nil
}
