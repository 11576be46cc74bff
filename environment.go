package provisioner

import (
	"cmp"
	"maps"
	"slices"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/environ"
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

// environment is what an engine is started with, sorted by name. A later layer wins over an earlier one.
func environment(cfg ProvisionConfig, spec engine.LaunchSpec, gpus []engine.GPU, s secrets, own map[string]string) []variable {
	all := map[string]variable{}
	layer := func(origin string, values map[string]string) {
		for name, value := range values {
			all[name] = variable{EnvVar{name, origin}, value}
		}
	}
	if !cfg.contained() { // the image has its own
		layer("inherited", environ.Engine())
	}
	layer("engine", spec.Env)
	layer("config", plainEnv(cfg))
	for name, value := range s.env {
		layer("config", map[string]string{name: value.Reveal()})
	}
	if len(s.keys) > 0 && spec.KeyEnv != "" {
		layer("api_key", map[string]string{spec.KeyEnv: s.keys.Joined(spec.KeySeparator)})
	}
	layer("devices", gpuEnv(cfg, gpus))
	layer("provisioner", own)
	return slices.SortedFunc(maps.Values(all), func(a, b variable) int { return cmp.Compare(a.Name, b.Name) })
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
