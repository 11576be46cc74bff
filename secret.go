package provisioner

import (
	"errors"
	"fmt"
	"slices"

	"github.com/llama-orch/engine-provisioner/internal/secret"
)

// read looks the secret up. The error names where it was looked for, never what was found.
func (r SecretRef) read(cfg ProvisionConfig) (secret.Text, error) {
	if r.FromEnv != "" {
		return secret.FromEnv(r.FromEnv)
	}
	return secret.FromFile(cfg.resolve(r.FromFile))
}

// readKeys looks up API keys: the text of a variable is one, and a file has one a line.
func (r SecretRef) readKeys(cfg ProvisionConfig) (secret.Keys, error) {
	if r.FromFile != "" {
		return secret.KeysFromFile(cfg.resolve(r.FromFile))
	}
	key, err := r.read(cfg)
	return secret.Keys{key}, err
}

// readSecret looks up a secret that is to be presented; of the API keys, it is the first.
func (c ProvisionConfig) readSecret(ref SecretRef) (secret.Text, error) {
	if c.APIKey == nil || ref != *c.APIKey {
		return ref.read(c)
	}
	keys, err := ref.readKeys(c)
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
		keys, err := cfg.APIKey.readKeys(cfg)
		if err != nil {
			failed = append(failed, fmt.Errorf("api_key: %w", err))
		}
		s.keys = keys
	}
	for name, value := range cfg.Env {
		if value.Secret == nil {
			continue
		}
		v, err := value.Secret.read(cfg)
		if err != nil {
			failed = append(failed, fmt.Errorf("env.%s: %w", name, err))
		}
		s.env[name] = v
	}
	// These are read again when they are needed; what cannot be read shall be known before the start.
	for i, hook := range cfg.Drain.Hooks {
		if hook.HTTP == nil {
			continue
		}
		if _, _, err := hook.HTTP.headers(cfg.readSecret); err != nil {
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
		if keys, err := c.APIKey.readKeys(c); err == nil {
			now["api_key"] = keys
		}
	}
	for name, value := range c.Env {
		if value.Secret == nil {
			continue
		}
		if text, err := value.Secret.read(c); err == nil {
			now["env."+name] = secret.Keys{text}
		}
	}
	return was.Seals.Broken(now)
}

func (s secrets) redactor() secret.Redactor {
	all := slices.Clone([]secret.Text(s.keys))
	for _, v := range s.env {
		all = append(all, v)
	}
	return secret.NewRedactor(all...)
}
