package provisioner

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/proc"
)

// EnvVar is one variable of an engine's environment. The value is left out: it may be a secret.
type EnvVar struct {
	Name   string `json:"name"`
	Origin string `json:"origin"` // "inherited", "engine", "config", "api_key", "devices" or "provisioner"
}

// variable is an EnvVar with its value.
type variable struct {
	EnvVar
	value string
}

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

func matches(patterns []string, name string) bool {
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

// environment is what an engine is started with, sorted by name. A later layer wins over an earlier one.
func environment(cfg ProvisionConfig, spec engine.LaunchSpec, gpus []engine.GPU, s secrets, own map[string]string) []variable {
	all := map[string]variable{}
	layer := func(origin string, values map[string]string) {
		for name, value := range values {
			all[name] = variable{EnvVar{name, origin}, value}
		}
	}
	if !cfg.contained() { // the image has its own
		layer("inherited", hostEnvironment())
	}
	layer("engine", spec.Env)
	layer("config", plainEnv(cfg))
	for name, value := range s.env {
		layer("config", map[string]string{name: value.reveal()})
	}
	if s.key.reveal() != "" && spec.KeyEnv != "" {
		layer("api_key", map[string]string{spec.KeyEnv: s.key.reveal()})
	}
	layer("devices", gpuEnv(cfg, gpus))
	layer("provisioner", own)
	return slices.SortedFunc(maps.Values(all), func(a, b variable) int { return cmp.Compare(a.Name, b.Name) })
}

func hostEnvironment() map[string]string {
	env := map[string]string{}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if matches(inherited, name) && !matches(notInherited, name) {
			env[name] = value
		}
	}
	return env
}

func plainEnv(cfg ProvisionConfig) map[string]string {
	env := map[string]string{}
	for name, value := range cfg.Env {
		if value.Secret == nil {
			env[name] = value.Value
		}
	}
	return env
}

// ownEnvironment is what marks a launch and keeps its files apart.
func ownEnvironment(launchID, tempDir string) map[string]string {
	return map[string]string{
		proc.MarkEnv: launchID,
		// setproctitle, which vLLM calls in every worker, wipes the environment that /proc shows unless this is set.
		"SPT_NOENV": "1",
		"TMPDIR":    tempDir,
		// llama-server reads $XDG_CONFIG_HOME/llama.cpp/config.ini at every start; a "port =" there moves the server.
		"XDG_CONFIG_HOME": tempDir + "/config",
		// Without it the last lines of a crashing Python engine stay in its buffer.
		"PYTHONUNBUFFERED": "1",
	}
}

func entries(vars []variable) []string {
	list := make([]string, len(vars))
	for i, v := range vars {
		list[i] = v.Name + "=" + v.value
	}
	return list
}
