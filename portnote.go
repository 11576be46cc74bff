package provisioner

import (
	"fmt"

	"github.com/llama-orch/engine-provisioner/internal/ephemeral"
)

// Warnings says what a valid configuration may suffer from on this host, which keeps no engine from starting. It looks at
// the kernel's settings and at nothing else.
//
// For now it knows ports that the kernel gives to clients' connections.
func (c *Config) Warnings() []Problem {
	ports := ephemeral.OfKernel()
	var all []Problem
	for i, pool := range c.Pools {
		for port := pool.Port; port < pool.Port+max(pool.Replicas, 1); port++ {
			if note := portNote(ports, port); note != "" {
				all = append(all, c.origin.locate(Problem{Key: fmt.Sprintf("pools[%d].port", i), Message: note}))
				break // the others of the pool are its neighbours
			}
		}
	}
	return all
}

// portNotes are the notes about the ports of a launch.
func portNotes(port int, beside []Port) []string {
	ports := ephemeral.OfKernel()
	var all []string
	for _, p := range append([]Port{{Number: port}}, beside...) {
		if note := portNote(ports, p.Number); note != "" {
			all = append(all, note)
		}
	}
	return all
}

// portNote warns of a port that an outgoing connection may have when the engine needs it; "" for any other.
func portNote(ports ephemeral.Ports, port int) string {
	if !ports.May(port) {
		return ""
	}
	return fmt.Sprintf("the kernel gives port %d to outgoing connections, too (%d-%d): a client of anything may have it when the engine starts; "+
		"choose one outside that range, or add it to the sysctl net.ipv4.ip_local_reserved_ports", port, ports.Range.First, ports.Range.Last)
}
