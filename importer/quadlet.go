package importer

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/docker/go-units"

	"github.com/llama-orch/engine-provisioner/internal/unitvalue"
)

// quadletKeys are the keys of [Container] that say something in a pool.
var quadletKeys = []string{
	"Image", "Exec", "Entrypoint", "ContainerName", "PublishPort", "Volume", "AddDevice", "Network", "ShmSize", "User", "Pull", "PodmanArgs", "StopTimeout",
	"EnvironmentFile", "Secret",
}

// container makes the pool of a [Container].
func (u *unitFile) container() ([]*pool, error) {
	if u.keys["Image"] == "" {
		return nil, errors.New("it has no Image=")
	}
	around := command{}
	if err := u.takeEnvironment(&around); err != nil {
		return nil, err
	}
	env := map[string]*string{}
	for name, value := range u.env {
		env[name] = &value
	}
	c := &container{
		image: u.keys["Image"], network: u.keys["Network"], user: u.keys["User"], pull: u.keys["Pull"],
		env: env, opts: u.opts,
	}
	if u.keys["StopTimeout"] != "" {
		c.grace = u.keys["StopTimeout"] + "s"
	}
	if size := u.keys["ShmSize"]; size != "" {
		bytes, err := units.RAMInBytes(size)
		if err != nil {
			return nil, fmt.Errorf("cannot understand ShmSize=%s", show(size))
		}
		c.shm = bytes
	}
	for _, words := range []struct {
		key string
		to  *[]string
	}{{"Exec", &c.command}, {"Entrypoint", &c.entrypoint}} {
		split, err := unitvalue.Words(u.keys[words.key])
		if err != nil {
			return nil, fmt.Errorf("cannot read %s=: %w", words.key, err)
		}
		for _, word := range split {
			*words.to = append(*words.to, u.variables(&around, u.specifiers(&around, word))...)
		}
	}
	for _, value := range u.lists["PublishPort"] {
		if port, ok := parsePublish(value); ok {
			c.ports = append(c.ports, port)
			continue
		}
		around.note("decide: PublishPort=%s: write the port that it shall listen on as \"port\"", show(value))
	}
	for _, value := range u.lists["Volume"] {
		parts := strings.Split(u.specifiers(&around, value), ":")
		if len(parts) < 2 {
			around.note("left out: Volume=%s: an anonymous volume", show(value))
			continue
		}
		c.mounts = append(c.mounts, mount{source: parts[0], target: parts[1], options: strings.Join(parts[2:], ",")})
	}
	for _, value := range u.lists["AddDevice"] {
		c.takeDevice(value)
	}
	for _, value := range u.lists["Secret"] {
		around.note("decide: Secret=%s: give it as \"env: {NAME: {from_env: NAME}}\" or \"api_key\"", show(value))
	}
	for _, value := range u.lists["PodmanArgs"] {
		words, err := unitvalue.Words(value)
		if err != nil {
			return nil, fmt.Errorf("cannot read PodmanArgs=: %w", err)
		}
		extra, err := dockerRun(append(words, "image"), nil)
		if err != nil {
			return nil, err
		}
		c.gpu, c.ipc = extra.gpu.joined(c.gpu), extra.ipc
		if extra.shm > 0 {
			c.shm = extra.shm
		}
		c.mounts, c.ports = append(c.mounts, extra.mounts...), append(c.ports, extra.ports...)
		maps.Copy(c.env, extra.env)
		around.notes = append(around.notes, extra.notes...)
	}
	c.notes = around.notes
	p, err := c.pool()
	if err != nil {
		return nil, err
	}
	return []*pool{p}, nil
}

// joined is both requests.
func (g gpuRequest) joined(other gpuRequest) gpuRequest {
	g.all, g.runtime, g.count = g.all || other.all, g.runtime || other.runtime, max(g.count, other.count)
	g.ids, g.devices = append(g.ids, other.ids...), append(g.devices, other.devices...)
	return g
}
