package importer

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/llama-orch/engine-provisioner/internal/variables"
)

// pool makes the pool of a service.
func (f *composeFile) pool(s types.ServiceConfig) (*pool, error) {
	c := &container{
		name: s.Name, image: s.Image, entrypoint: s.Entrypoint, command: s.Command, env: map[string]*string{}, refs: map[string]string{},
		network: s.NetworkMode, ipc: s.Ipc, shm: int64(s.ShmSize), user: s.User, pull: s.PullPolicy, restart: s.Restart, workdir: s.WorkingDir,
	}
	c.opts, c.notes = f.opts, f.notes[s.Name]
	for name, value := range s.Environment {
		c.env[name] = value
		if value != nil && strings.HasPrefix(*value, "${") && strings.HasSuffix(*value, "}") {
			if reference := (*value)[2 : len(*value)-1]; variables.NameLength(reference) == len(reference) {
				c.env[name], c.refs[name] = nil, reference
			}
		}
	}
	if s.Build != nil {
		if c.image == "" {
			c.image = s.Name
		}
		c.note("decide: build: the image is made of %s: build it first, and give it a name and a tag", show(s.Build.Context))
	}
	for _, port := range s.Ports {
		host, err := strconv.Atoi(port.Published)
		if err != nil && port.Published != "" || port.Protocol == "udp" {
			c.note("decide: the port %s: write the one that it shall listen on", show(port.Published))
			continue
		}
		c.ports = append(c.ports, published{ip: port.HostIP, host: host, target: int(port.Target)})
	}
	for _, v := range s.Volumes {
		c.takeVolume(v)
	}
	c.takeGPUs(s)
	if s.StopGracePeriod != nil {
		c.grace = s.StopGracePeriod.String()
	}
	c.takeNetworks(s)
	f.leaveOut(c, s)
	p, err := c.pool()
	if err != nil {
		return nil, err
	}
	if n := replicasOf(s); n > 1 {
		p.set("replicas", n, "each has a port of its own, from \"port\" on")
	}
	return p, nil
}

func replicasOf(s types.ServiceConfig) int {
	switch {
	case s.Scale != nil:
		return *s.Scale
	case s.Deploy != nil && s.Deploy.Replicas != nil:
		return *s.Deploy.Replicas
	}
	return 1
}

func (c *container) takeVolume(v types.ServiceVolumeConfig) {
	switch {
	case v.Type == types.VolumeTypeBind || v.Type == types.VolumeTypeVolume && v.Source != "":
		options := ""
		if v.ReadOnly {
			options = "ro"
		}
		c.mounts = append(c.mounts, mount{source: v.Source, target: v.Target, options: options})
		if v.Bind != nil && v.Bind.Propagation != "" {
			c.note("left out: the propagation %s of the volume %s", show(v.Bind.Propagation), show(v.Target))
		}
	default:
		c.note("left out: the volume %s of the type %s", show(v.Target), show(v.Type))
	}
}

func (c *container) takeGPUs(s types.ServiceConfig) {
	c.gpu.runtime = s.Runtime == "nvidia"
	requests := s.Gpus
	if s.Deploy != nil && s.Deploy.Resources.Reservations != nil {
		requests = slices.Concat(requests, s.Deploy.Resources.Reservations.Devices)
	}
	for _, r := range requests {
		switch {
		case r.Driver != "" && r.Driver != "nvidia" && r.Driver != "cdi":
			c.note("left out: devices of the driver %s", show(r.Driver))
		case len(r.IDs) > 0:
			c.gpu.ids = append(c.gpu.ids, r.IDs...)
		case r.Count > 0:
			c.gpu.count = int(r.Count)
		default:
			c.gpu.all = true
		}
	}
	for _, d := range s.Devices {
		c.takeDevice(strings.TrimSuffix(d.Source+":"+d.Target, ":"+d.Source))
	}
}

func (c *container) takeNetworks(s types.ServiceConfig) {
	names := slices.Sorted(maps.Keys(s.Networks))
	names = slices.DeleteFunc(names, func(n string) bool { return n == "default" })
	if len(names) > 0 {
		c.note("decide: it was in the networks %s, by which other services reached it as %s: here clients use the port; provisioning.container.network puts it into one that exists",
			show(strings.Join(names, ", ")), show(s.Name))
	}
}

// taken are the keys of a service that say something in a pool.
var taken = []string{
	"image", "entrypoint", "command", "environment", "ports", "volumes", "network_mode", "networks", "ipc", "shm_size", "user", "pull_policy", "restart",
	"working_dir", "build", "gpus", "runtime", "devices", "stop_grace_period", "scale", "deploy", "extends", "env_file", "label_file",
}

// whyNot says of some keys why a pool has none like them.
var whyNot = map[string]string{
	"healthcheck": "what \"ready\" means is known of each engine; see \"ready\" and \"liveness\"",
	"depends_on":  "a pool waits for no other",
	"logging":     "the provisioner keeps the log; see \"logs\"",
	"secrets":     "give them as {from_env: NAME} or {from_file: PATH}",
	"expose":      "its port is published on 127.0.0.1",
	"profiles":    "choose pools with --pool",
	"privileged":  "an engine needs no more than its GPUs",
}

// leaveOut tells of each key that has no place.
func (f *composeFile) leaveOut(c *container, s types.ServiceConfig) {
	own := f.services[s.Name]
	var plain []string
	for _, key := range slices.Sorted(maps.Keys(own)) {
		switch {
		case slices.Contains(taken, key):
		case slices.Contains([]string{"container_name", "hostname", "tty", "stdin_open", "init", "labels"}, key):
			plain = append(plain, showKey(key, own[key]))
		default:
			reason := whyNot[key]
			if reason == "" {
				reason = "a container has no key for it here"
			}
			c.note("left out: %s: %s", showKey(key, own[key]), reason)
		}
	}
	if len(plain) > 0 {
		c.note("left out: %s: the provisioner makes the container", strings.Join(plain, "; "))
	}
	deploy := block(own["deploy"])
	for _, key := range slices.Sorted(maps.Keys(deploy)) {
		resources := block(deploy[key])
		switch {
		case key == "replicas":
		case key == "resources" && len(resources) > 0:
			for _, kind := range slices.Sorted(maps.Keys(resources)) {
				rest := maps.Clone(block(resources[kind]))
				delete(rest, "devices")
				if len(rest) > 0 {
					c.note("left out: deploy.resources.%s: %s: a container has no key for it here", show(kind), show(rest))
				}
			}
		default:
			c.note("left out: deploy.%s: a container has no key for it here", showKey(key, deploy[key]))
		}
	}
	if base := block(own["extends"]); base != nil {
		c.note("it has what the service %s has, too", show(base["service"]))
	}
}
