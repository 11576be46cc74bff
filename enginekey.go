package provisioner

import (
	"fmt"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/secret"
)

// The shell of a stop, and the next manager, need not have the variable that the configuration names for the API key, and a file
// may be gone or hold a newer key by now. What an engine was started with stands in its environment.

// givenKey is the API key that the running engine was started with; false where that cannot be read, as after setproctitle.
func (r *run) givenKey() (secret.Text, bool) {
	name := r.rec.Launch.Spec.KeyEnv
	if name == "" {
		return secret.Text{}, false
	}
	// The process is the recorded one as long as it has not exited afterwards, too.
	text, known := procfs.Env(r.inst.PID(), name)
	if !known || r.inst.Exited() {
		return secret.Text{}, false
	}
	key, err := secret.New(text, fmt.Sprintf("the variable %q of the engine", name))
	return key, err == nil
}

// engineKey is the API key of an engine that another program has started.
func (p *EngineProvisioner) engineKey(r *run) (secret.Text, error) {
	if key, known := r.givenKey(); known {
		return key, nil
	}
	return p.cfg.APIKey.read(p.cfg)
}

// hookSecret reads a secret of a hook. Where it is the API key and cannot be read here, it is that of the engine.
func (p *EngineProvisioner) hookSecret(r *run, ref SecretRef) (secret.Text, error) {
	s, err := ref.read(p.cfg)
	if err != nil && p.cfg.APIKey != nil && ref == *p.cfg.APIKey {
		if key, known := r.givenKey(); known {
			return key, nil
		}
	}
	return s, err
}
