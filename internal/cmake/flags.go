// Package cmake knows CMake's command line and output: flags and their old names, the tools that a build needs, how far
// a build is, and what went wrong in it. It runs nothing.
//
// Who builds engines calls it, and the check of a configuration. It looks for no tool, and at no file.
package cmake

import (
	"fmt"
	"slices"
	"strings"
)

// Flags are definitions and other flags of a configuration. A later definition of a variable wins.
type Flags []string

// renamed are variables of llama.cpp of old. With the first, it refuses to be configured; the second will go.
var renamed = map[string]string{"LLAMA_CUBLAS": "GGML_CUDA", "LLAMA_CUDA": "GGML_CUDA"}

// ours are flags that other keys decide, with what to do instead.
var ours = map[string]string{
	"-S": "the source tree is chosen for you; remove it",
	"-B": "the folder of the build is chosen for you; remove it",
	"-G": `write "generator" instead`,
	"-P": "it runs a script instead of a build; remove it",
	"-E": "it runs a tool instead of a build; remove it",
	"-N": "it only looks at an earlier build; remove it",
	"-A": "the platform is this machine's; remove it",
}

// Check tells what is wrong with one flag, given the one before it, or "".
func Check(before, flag string) string {
	switch {
	case strings.ContainsRune(flag, 0):
		return "holds a NUL character; remove it"
	case before == "-D" || before == "-U":
		if flag == "" || flag[0] == '-' {
			return fmt.Sprintf("is %q after %q; write a variable, such as \"-DGGML_CUDA=ON\"", flag, before)
		}
		return ""
	case !strings.HasPrefix(flag, "-") || flag == "-":
		return fmt.Sprintf("is %q, which is no flag; write one element for each, such as \"-DGGML_CUDA=ON\"", flag)
	case len(flag) >= 2 && ours[flag[:2]] != "":
		return fmt.Sprintf("is %q; %s", flag, ours[flag[:2]])
	case strings.HasPrefix(flag, "--build"), strings.HasPrefix(flag, "--install"), strings.HasPrefix(flag, "--open"),
		strings.HasPrefix(flag, "--preset"), flag == "--version", flag == "--help":
		return fmt.Sprintf("is %q, which configures nothing; remove it", flag)
	}
	return ""
}

// Current gives flags the names of today, with each definition in one element.
func Current(flags []string) Flags {
	var now Flags
	for i := 0; i < len(flags); i++ {
		flag := flags[i]
		if (flag == "-D" || flag == "-U") && i+1 < len(flags) {
			i++
			flag += flags[i]
		}
		if name, rest, ok := definition(flag); ok && renamed[name] != "" {
			flag = "-D" + renamed[name] + rest
		}
		now = append(now, flag)
	}
	return now
}

// definition takes "-DNAME:TYPE=VALUE" apart; rest is what follows the name.
func definition(flag string) (name, rest string, ok bool) {
	text, ok := strings.CutPrefix(flag, "-D")
	if !ok {
		return "", "", false
	}
	end := strings.IndexAny(text, ":=")
	if end < 0 {
		end = len(text)
	}
	return text[:end], text[end:], true
}

// Value is what a variable is set to; ok is false where it is not.
func (f Flags) Value(variable string) (value string, ok bool) {
	for _, flag := range slices.Backward(f) {
		if name, rest, is := definition(flag); is && name == variable {
			_, value, _ = strings.Cut(rest, "=")
			return value, true
		}
	}
	return "", false
}

// On reports whether a variable is set to one of CMake's words for true.
func (f Flags) On(variable string) bool {
	value, _ := f.Value(variable)
	return slices.Contains([]string{"1", "ON", "YES", "TRUE", "Y"}, strings.ToUpper(value))
}
