package fleet

import (
	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/cache"
)

// settings stands for all that decides on a launch before anything is looked at on the node. What only the provisioner acts on is
// left out.
func settings(c provisioner.ProvisionConfig) string {
	dir := c.Dir
	c.Restart, c.Liveness, c.Drain, c.Ready, c.Stop, c.Logs = provisioner.RestartConfig{}, provisioner.LivenessConfig{}, provisioner.DrainConfig{}, provisioner.ReadyConfig{}, provisioner.StopConfig{}, provisioner.LogsConfig{}
	c.Fit, c.Expose, c.Handoff, c.Download = "", false, provisioner.HandoffConfig{}, provisioner.DownloadConfig{}
	return cache.Hash(c, dir)
}
