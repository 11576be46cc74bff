// Package docker runs engines in containers, through Docker or Podman's Docker-compatible service:
//
//	p, err := provisioner.New(cfg, provisioner.WithLauncher(docker.New()))
//
// It performs the launches of configurations with the provisioning mode "container". The runtime must be on this
// machine and is reached through its socket; no command line of it is used. Containers are found by their labels, so
// that a later program adopts, stops and removes what an earlier one has started.
//
// A separate package keeps the container client out of programs that want none.
package docker
