package provisioner

import (
	"fmt"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// engineKey is the API key of an engine that another program has started. The shell of a stop need not have the variable
// that the configuration names, and a file may hold a newer key by now: what the engine was started with stands in its
// environment. Where that cannot be read, as after setproctitle, it is looked up as the configuration says.
func (p *EngineProvisioner) engineKey(r *run) (secret, error) {
	if name := r.rec.Launch.Spec.KeyEnv; name != "" {
		// The process is the recorded one as long as it has not exited afterwards, too.
		if text, known := procfs.Env(r.inst.PID(), name); known && text != "" && !r.inst.Exited() {
			return newSecret(text, fmt.Sprintf("the variable %q of the engine", name))
		}
	}
	return p.cfg.APIKey.read(p.cfg)
}
