package provisioner

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/hook"
	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// variable is an EnvVar with its value.
type variable struct {
	report.Variable
	value string
}

// environment is what an engine is started with, sorted by name. A later layer wins over an earlier one. devices is what
// confines it to its GPUs.
func environment(cfg ProvisionConfig, spec engine.LaunchSpec, devices map[string]string, s secrets, own map[string]string) []variable {
	all := map[string]variable{}
	layer := func(origin string, values map[string]string) {
		for name, value := range values {
			all[name] = variable{report.Variable{Name: name, Origin: origin}, value}
		}
	}
	layer("inherited", environ.Engine(environ.For{Hub: spec.FetchesFromHub, Contained: cfg.contained(), Secrets: cfg.secretVariables()}))
	if cfg.GPU == engine.GPUUnmanaged && !cfg.contained() {
		layer("inherited", environ.Matching(gpu.Variables()))
	}
	layer("inherited", environ.Chosen(cfg.InheritEnv))
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

// secretVariables are the variables from which this replica, or another one of its file, reads secrets.
func (c ProvisionConfig) secretVariables() environ.Secrets {
	names := secret.References(c)
	if c.origin != nil {
		names = append(names, c.origin.Secrets...)
	}
	return names
}

// leftBehind are those of a launch.
func leftBehind(cfg ProvisionConfig, e Engine, host engine.Host, passed []report.Variable) []report.LeftVariable {
	var all []report.LeftVariable
	for _, name := range environ.LeftBehind(func(name string) bool {
		return slices.ContainsFunc(passed, func(v report.Variable) bool { return v.Name == name && v.Origin != "devices" })
	}) {
		all = append(all, report.LeftVariable{Name: name, How: howToPass(cfg, e, host, name)})
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
		cfg.Env = map[string]settings.EnvValue{}
	}
	cfg.Env[name] = settings.EnvValue{Value: value}
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
func plannedEnv(cfg ProvisionConfig, spec engine.LaunchSpec, devices map[string]string) []report.Variable {
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
	names := make([]report.Variable, len(vars))
	for i, v := range vars {
		names[i] = v.Variable
	}
	return slices.Clip(names)
}

// readRef looks the secret up. The error names where it was looked for, never what was found.
func readRef(r settings.SecretRef, cfg ProvisionConfig) (secret.Text, error) {
	if r.FromEnv != "" {
		return secret.FromEnv(r.FromEnv)
	}
	return secret.FromFile(cfg.resolve(r.FromFile))
}

// readKeys looks up API keys: the text of a variable is one, and a file has one a line.
func readKeys(r settings.SecretRef, cfg ProvisionConfig) (secret.Keys, error) {
	if r.FromFile != "" {
		return secret.KeysFromFile(cfg.resolve(r.FromFile))
	}
	key, err := readRef(r, cfg)
	return secret.Keys{key}, err
}

// readSecret looks up a secret that is to be presented; of the API keys, it is the first.
func (c ProvisionConfig) readSecret(ref settings.SecretRef) (secret.Text, error) {
	if c.APIKey == nil || ref != *c.APIKey {
		return readRef(ref, c)
	}
	keys, err := readKeys(ref, c)
	return keys.First(), err
}

// secrets are the looked-up secrets of one replica.
type secrets struct {
	keys secret.Keys            // none when the engine asks for none
	env  map[string]secret.Text // by the variable's name
}

func readSecrets(cfg ProvisionConfig) (secrets, error) {
	s := secrets{env: map[string]secret.Text{}}
	var failed []error
	if cfg.APIKey != nil {
		keys, err := readKeys(*cfg.APIKey, cfg)
		if err != nil {
			failed = append(failed, fmt.Errorf("api_key: %w", err))
		}
		s.keys = keys
	}
	for name, value := range cfg.Env {
		if value.Secret == nil {
			continue
		}
		v, err := readRef(*value.Secret, cfg)
		if err != nil {
			failed = append(failed, fmt.Errorf("env.%s: %w", name, err))
		}
		s.env[name] = v
	}
	// These are read again when they are needed; what cannot be read shall be known before the start.
	for i, h := range cfg.Drain.Hooks {
		if h.HTTP == nil {
			continue
		}
		if _, _, err := hook.Headers(h.HTTP.Headers, cfg.readSecret); err != nil {
			failed = append(failed, fmt.Errorf("drain.hooks[%d].http.%w", i, err))
		}
	}
	return s, errors.Join(failed...)
}

// byKey are those that the engine was given, by the configuration's keys.
func (s secrets) byKey() map[string]secret.Keys {
	all := map[string]secret.Keys{}
	if len(s.keys) > 0 {
		all["api_key"] = s.keys
	}
	for name, value := range s.env {
		all["env."+name] = secret.Keys{value}
	}
	return all
}

// rotated are the keys of secrets that are no longer those of the launch. What cannot be read here, such as a variable that
// another shell has, says nothing.
func (c ProvisionConfig) rotated(was launchRecord) []string {
	now := map[string]secret.Keys{}
	if c.APIKey != nil {
		if keys, err := readKeys(*c.APIKey, c); err == nil {
			now["api_key"] = keys
		}
	}
	for name, value := range c.Env {
		if value.Secret == nil {
			continue
		}
		if text, err := readRef(*value.Secret, c); err == nil {
			now["env."+name] = secret.Keys{text}
		}
	}
	return was.Seals.Broken(now)
}

// redactor knows the secrets of the configuration, and those that engines get without it.
func (s secrets) redactor() secret.Redactor {
	all := slices.Concat(s.keys, secret.InEnvironment(os.Environ()))
	for _, v := range s.env {
		all = append(all, v)
	}
	return secret.NewRedactor(all...)
}

// The shell of a stop, and the next manager, need not have the variable that the configuration names for the API key, and a file
// may be gone or hold a newer key by now. What an engine was started with stands in its environment.

// givenKeys are the API keys that the running engine was started with; false where that cannot be read, as after setproctitle.
func (r *run) givenKeys() (secret.Keys, bool) {
	name, separator := r.rec.Launch.Spec.KeyEnv, r.rec.Launch.Spec.KeySeparator
	if name == "" {
		return nil, false
	}
	// The process is the recorded one as long as it has not exited afterwards, too.
	text, known := procfs.Env(r.inst.PID(), name)
	if !known || r.inst.Exited() {
		return nil, false
	}
	texts := []string{text}
	if separator != "" {
		texts = strings.Split(text, separator)
	}
	var keys secret.Keys
	for _, text := range texts {
		key, err := secret.New(text, fmt.Sprintf("the variable %q of the engine", name))
		if err != nil {
			return nil, false
		}
		keys = append(keys, key)
	}
	return keys, true
}

// engineKey is the API key of an engine that another program has started.
func (p *EngineProvisioner) engineKey(r *run) (secret.Text, error) {
	if keys, known := r.givenKeys(); known {
		return keys.First(), nil
	}
	keys, err := readKeys(*p.cfg.APIKey, p.cfg)
	return keys.First(), err
}

// hookSecret reads a secret of a hook. Where it is the API key and cannot be read here, it is that of the engine.
func (p *EngineProvisioner) hookSecret(r *run, ref settings.SecretRef) (secret.Text, error) {
	s, err := p.cfg.readSecret(ref)
	if err != nil && p.cfg.APIKey != nil && ref == *p.cfg.APIKey {
		if keys, known := r.givenKeys(); known {
			return keys.First(), nil
		}
	}
	return s, err
}

// checkKeys refuses keys that would not reach the engine as they are, before anything is fetched. What is wrong with the flags is
// told later.
func (p *EngineProvisioner) checkKeys(keys secret.Keys) error {
	cfg := p.cfg
	cfg.Flags, cfg.Env = nil, nil
	spec, _ := launchOf(p.engine, cfg, engine.Host{})
	if len(keys) > 1 && spec.KeySeparator == "" {
		return &probe.KeyError{
			Problem: fmt.Sprintf("the file %q holds %d keys, one a line, and %s takes one", p.cfg.APIKey.FromFile, len(keys), p.cfg.Engine),
			Fix:     "leave one line in it",
		}
	}
	for _, key := range keys {
		if err := probe.CheckKey(key, spec.KeySeparator, spec.KeyEnv); err != nil {
			return err
		}
	}
	return nil
}
