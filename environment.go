package provisioner

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/secret"
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

// environment is what an engine is started with, sorted by name. A later layer wins over an earlier one. devices is what
// confines it to its GPUs.
func environment(cfg ProvisionConfig, spec engine.LaunchSpec, devices map[string]string, s secrets, own map[string]string) []variable {
	all := map[string]variable{}
	layer := func(origin string, values map[string]string) {
		for name, value := range values {
			all[name] = variable{EnvVar{name, origin}, value}
		}
	}
	layer("inherited", environ.Engine(environ.For{Hub: spec.FetchesFromHub, Contained: cfg.contained()}))
	if cfg.GPU == GPUUnmanaged && !cfg.contained() {
		layer("inherited", environ.Matching(gpu.Variables()))
	}
	layer("engine", spec.Env)
	layer("config", plainEnv(cfg))
	for name, value := range s.env {
		layer("config", map[string]string{name: value.Reveal()})
	}
	if len(s.keys) > 0 && spec.KeyEnv != "" {
		layer("api_key", map[string]string{spec.KeyEnv: s.keys.Joined(spec.KeySeparator)})
	}
	layer("devices", devices)
	layer("provisioner", own)
	return slices.SortedFunc(maps.Values(all), func(a, b variable) int { return cmp.Compare(a.Name, b.Name) })
}

// LeftVariable is a variable that is set where the provisioner runs, that engines would heed, and that the engine does not get.
type LeftVariable struct {
	Name string `json:"name"`
	How  string `json:"how"` // what to write instead; for people
}

// leftBehind are those of a launch.
func leftBehind(cfg ProvisionConfig, e Engine, host engine.Host, passed []EnvVar) []LeftVariable {
	var all []LeftVariable
	for _, name := range environ.LeftBehind(func(name string) bool {
		return slices.ContainsFunc(passed, func(v EnvVar) bool { return v.Name == name && v.Origin != "devices" })
	}) {
		all = append(all, LeftVariable{Name: name, How: howToPass(cfg, e, host, name)})
	}
	return all
}

// howToPass says by which key an engine gets what a variable of the environment says, if it can.
func howToPass(cfg ProvisionConfig, e Engine, host engine.Host, name string) string {
	if advice, owned := keys.OwnedVariable(name); owned {
		return advice
	}
	value, how := os.Getenv(name), fmt.Sprintf("env: {%s: VALUE}", name)
	if environ.Secret(name) {
		value, how = "", fmt.Sprintf("env: {%s: {from_env: %s}}", name, name)
	}
	// What the file would be told of it, had it the variable.
	cfg.origin, cfg.Env = nil, maps.Clone(cfg.Env) // the keys of its problems shall be relative
	if cfg.Env == nil {
		cfg.Env = map[string]EnvValue{}
	}
	cfg.Env[name] = EnvValue{Value: value}
	_, err := launchOf(e, cfg, host)
	if wrong, ok := errors.AsType[*ConfigError](err); ok {
		for _, p := range wrong.Problems {
			if p.Key == keys.Join("env", name) {
				return p.Message
			}
		}
	}
	return how
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

// plannedEnv names the variables of a launch without looking up a secret.
func plannedEnv(cfg ProvisionConfig, spec engine.LaunchSpec, devices map[string]string) []EnvVar {
	unread := secrets{env: map[string]secret.Text{}}
	if cfg.APIKey != nil {
		unread.keys = secret.Keys{secret.Of(redact.Word)}
	}
	for name, value := range cfg.Env {
		if value.Secret != nil {
			unread.env[name] = secret.Of(redact.Word)
		}
	}
	vars := environment(cfg, spec, devices, unread, ownEnvironment("", ""))
	names := make([]EnvVar, len(vars))
	for i, v := range vars {
		names[i] = v.EnvVar
	}
	return slices.Clip(names)
}
