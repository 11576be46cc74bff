// Package environ says which variables of this program's environment go on to the programs that it starts: to engines, and to
// the tools that build and install them.
//
// Whoever starts programs calls it. It reads the environment when it is asked, and never changes it.
package environ

import (
	"os"
	"slices"
	"strings"
)

// inherited are the variables that an engine gets from the provisioner's own environment. Everything else stays
// behind: LLAMA_ARG_* and VLLM_* would change what is run, NOTIFY_SOCKET and LISTEN_FDS are not the engine's, and
// the rest may hold secrets.
var inherited = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "XDG_CACHE_HOME", "XDG_DATA_HOME",
	"CUDA_*", "NVIDIA_*", "HIP_*", "ROCR_*", "HSA_*", "HF_*", "OMP_*", "SSL_CERT_FILE", "SSL_CERT_DIR",
}

// notInherited are the exceptions among them: what they say is said by devices, gpu and the secrets, or would be a flag
// of TGI.
var notInherited = []string{
	"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "*_TOKEN", "*_KEY",
	"CUDA_GRAPHS", "CUDA_MEMORY_FRACTION",
}

// Engine is what an engine gets.
func Engine() map[string]string {
	env := map[string]string{}
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); Match(inherited, name) && !Match(notInherited, name) {
			env[name] = value
		}
	}
	return env
}

// dropped are variables that would change what is built, or that no build should know.
var dropped = []string{
	"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", // of a git hook
	"MAKEFLAGS", "MFLAGS", "MAKELEVEL", // of a make around us
	"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__", // of a Python around us
	"*_TOKEN", "*_KEY", "*_SECRET", "*_PASSWORD", "DESTDIR",
}

// Tool is what a tool gets, as "NAME=value". kept are names, as patterns, that stay although they look like secrets.
func Tool(kept []string) []string {
	var env []string
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); !Match(dropped, name) || Match(kept, name) {
			env = append(env, entry)
		}
	}
	return env
}

// Match reports whether a name is one of the patterns: a name, "PREFIX*" or "*SUFFIX".
func Match(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		if suffix, ok := strings.CutPrefix(p, "*"); ok {
			return strings.HasSuffix(name, suffix)
		}
		return name == p
	})
}
