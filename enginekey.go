package provisioner

import (
	"fmt"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/secret"
)

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
	keys, err := p.cfg.APIKey.readKeys(p.cfg)
	return keys.First(), err
}

// hookSecret reads a secret of a hook. Where it is the API key and cannot be read here, it is that of the engine.
func (p *EngineProvisioner) hookSecret(r *run, ref SecretRef) (secret.Text, error) {
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
