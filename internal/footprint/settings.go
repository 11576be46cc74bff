package footprint

import (
	"encoding/json"

	"github.com/llama-orch/engine-provisioner/settings"
)

// OfValue stands for a value; of a secret it is the reference, since the value is read at a start.
func OfValue(v settings.EnvValue) string {
	if v.Secret != nil {
		return "from_env " + v.Secret.FromEnv + " from_file " + v.Secret.FromFile
	}
	return "is " + v.Value
}

// AddContainer adds each key of the block. When an image is pulled is the provisioner's matter.
func (f *Footprint) AddContainer(c *settings.Container) {
	if c == nil {
		return
	}
	settings := *c
	settings.Pull = ""
	var keys map[string]json.RawMessage
	if data, err := json.Marshal(settings); err == nil {
		_ = json.Unmarshal(data, &keys) // what was just written
	}
	for key, value := range keys {
		f.Show("provisioning.container."+key, string(value))
	}
}
