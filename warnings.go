package provisioner

import (
	"fmt"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/ephemeral"
)

// Warnings says what a valid configuration may suffer from on this host, which keeps no engine from starting. It looks at
// the kernel's settings and at no other thing of the host.
//
// It knows ports that the kernel gives to clients' connections, and what engines note of flags: those that can be judged by
// an executable alone, which it does not look for.
func (c *Config) Warnings(opts ...Option) []Problem {
	ports, o := ephemeral.OfKernel(), newOptions(opts)
	var all []Problem
	for i, pool := range c.Pools {
		for port := pool.Port; port < pool.Port+max(pool.Replicas, 1); port++ {
			if note := ports.Note(port); note != "" {
				all = append(all, c.origin.locate(Problem{Key: fmt.Sprintf("pools[%d].port", i), Message: note}))
				break // the others of the pool are its neighbours
			}
		}
		cfg := c.replica(i, 0)
		if e, known := o.engine(cfg.Engine); known {
			spec, _ := describe(e, cfg, engine.Host{}) // what is wrong with it, Validate tells
			all = append(all, cfg.notes(spec)...)
		}
	}
	return all
}

// notes are those of an engine on its flags, as problems of the file.
func (c ProvisionConfig) notes(spec engine.LaunchSpec) []Problem {
	var all []Problem
	for _, n := range spec.Notes {
		all = append(all, c.origin.locate(Problem{Key: n.Key, Message: n.Message}))
	}
	return all
}
