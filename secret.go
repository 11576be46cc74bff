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

func (s secrets) redactor() secret.Redactor {
	all := slices.Clone([]secret.Text(s.keys))
	for _, v := range s.env {
		all = append(all, v)
	}
	return secret.NewRedactor(all...)
}
