package main

import (
	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/docker"
)

// withContainers adds to opts what performs launches in containers.
func withContainers(opts ...provisioner.Option) []provisioner.Option {
	return append(opts, provisioner.WithLauncher(docker.New()))
}
