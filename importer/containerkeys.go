package importer

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// takePorts finds the port that clients know, and says what became of the others.
func (c *container) takePorts(p *pool, box map[string]any) {
	inside, _ := p.Keys["port"].Value.(int)
	if c.network == "host" {
		box["network"] = "host"
		p.takeHost()
		if len(c.ports) > 0 {
			p.note("left out: published ports, which the network of the host makes void")
		}
		return
	}
	switch network := c.network; {
	case network == "" || network == "bridge" || network == "default":
	case network == "none":
		p.note("left out: the network none, with which nobody reaches the engine")
	case networkName.MatchString(network):
		box["network"] = network
	default:
		p.note("left out: the network %q: a container has its own, the host's, or one with a name", show(network))
	}
	i := slices.IndexFunc(c.ports, func(port published) bool { return port.target == inside })
	if i < 0 && len(c.ports) == 1 {
		i = 0
	}
	for n, port := range c.ports {
		if n != i {
			p.note("left out: the published port %d:%d: a replica has one", port.host, port.target)
		}
	}
	if i < 0 {
		p.decide("port", inside, "no port was published for it; it listens on this one of 127.0.0.1")
		return
	}
	port := c.ports[i]
	if port.host == 0 {
		p.decide("port", port.target, "the runtime chose one")
	} else {
		p.set("port", port.host, "")
	}
	if port.ip != "127.0.0.1" && port.ip != "::1" {
		p.open(cmp.Or(port.ip, "0.0.0.0"))
	}
}

var networkName = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

var volumeName = networkName

// takeMounts keeps the mounts, and finds the model on the host.
func (c *container) takeMounts(p *pool, box map[string]any) {
	var volumes []string
	var usable []mount
	for _, m := range c.mounts {
		source := c.hostPath(m.source)
		bind := strings.HasPrefix(source, "/")
		switch {
		case !bind && !volumeName.MatchString(source) || !strings.HasPrefix(m.target, "/") || strings.Contains(m.target, "$"):
			p.note("decide: the volume %s: write it as \"/host/path:/path\" under provisioning.container.volumes", show(m.source+":"+m.target))
			if strings.HasPrefix(m.target, "/") {
				usable = append(usable, mount{source: "", target: m.target})
			}
			continue
		case !bind:
			usable = append(usable, mount{source: "", target: m.target})
		default:
			usable = append(usable, mount{source: source, target: m.target})
		}
		volume := source + ":" + m.target
		for option := range strings.SplitSeq(m.options, ",") {
			switch option {
			case "ro":
				volume += ":ro"
			case "", "rw", "z", "Z":
				if option == "z" || option == "Z" {
					p.note("left out: the option %q of the volume %s", option, show(m.source+":"+m.target))
				}
			default:
				p.note("left out: the option %q of the volume %s", show(option), show(m.source+":"+m.target))
			}
		}
		volumes = append(volumes, volume)
	}
	if len(volumes) > 0 {
		box["volumes"] = volumes
	}
	id := p.modelID()
	if !isPath(id) || p.Keys["model"].Note != "" {
		return
	}
	inside := id
	if !path.IsAbs(inside) {
		if c.workdir == "" {
			p.setModel(id, "decide: a path in the container, relative to the image's folder; write the one of the host")
			return
		}
		inside = path.Join(c.workdir, inside)
	}
	var best *mount
	for i, m := range usable {
		if under(inside, m.target) && (best == nil || len(path.Clean(m.target)) > len(path.Clean(best.target))) {
			best = &usable[i]
		}
	}
	switch {
	case best == nil:
		p.setModel(id, "decide: a path in the container that no volume has; write the one of the host, or keep it in a volume")
	case best.source == "":
		p.setModel(id, "decide: a path in a volume of the runtime; write a path of the host that has the model")
	default:
		p.setModel(path.Join(best.source, strings.TrimPrefix(path.Clean(inside), path.Clean(best.target))), "")
	}
}

// under reports whether a path is a folder, or in it.
func under(file, folder string) bool {
	file, folder = path.Clean(file), path.Clean(folder)
	return file == folder || strings.HasPrefix(file, strings.TrimSuffix(folder, "/")+"/")
}

// hostPath is the source of a mount as an absolute path, where it is one; else as it is.
func (c *container) hostPath(source string) string {
	if strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../") || source == "." || source == ".." {
		if c.dir != "" {
			return filepath.Join(c.dir, source)
		}
		return source
	}
	if strings.HasPrefix(source, "/") && !strings.Contains(source, "$") {
		return path.Clean(source)
	}
	return source
}

// takeEnv takes what the variables of NVIDIA's runtime say.
func (g *gpuRequest) takeEnv(env map[string]string) {
	value, ok := env["NVIDIA_VISIBLE_DEVICES"]
	if !ok || strings.Contains(value, "$") {
		return
	}
	delete(env, "NVIDIA_VISIBLE_DEVICES")
	switch value {
	case "all":
		g.all = true
	case "", "none", "void":
	default:
		g.ids = append(g.ids, strings.Split(value, ",")...)
	}
}

// take says which GPUs the pool has.
func (g *gpuRequest) take(p *pool) {
	inside, masked := p.Keys["devices"].Value.([]any)
	if p.Keys["gpu"].Value == "none" {
		return
	}
	ids := g.ids
	if masked && len(ids) > 0 { // its numbers count what the container has
		var mapped []string
		for _, one := range inside {
			if n, ok := one.(int); ok && n >= 0 && n < len(ids) {
				mapped = append(mapped, ids[n])
			}
		}
		ids = mapped
	}
	switch {
	case len(ids) > 0:
		devices := []any{}
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil {
				devices = append(devices, n)
			} else {
				devices = append(devices, id)
			}
		}
		p.set("devices", devices, "")
	case g.count > 0 && !masked:
		p.decide("devices", "auto", fmt.Sprintf("any %d were asked for; this takes as few as have enough memory, or as many as the flags need", g.count))
	case g.all || g.runtime || g.count > 0 || masked:
	case len(g.devices) > 0:
		p.decide("gpu", "optional", "it had the devices "+show(strings.Join(g.devices, " "))+": containers have GPUs of NVIDIA alone here")
	default:
		p.decide("gpu", "none", "no GPU was asked for; remove this where it had one all the same")
	}
	if len(g.devices) > 0 && p.Keys["gpu"].Value != "optional" {
		p.note("left out: the devices %s", show(strings.Join(g.devices, " ")))
	}
}

// takeRest takes what has a key of the same meaning.
func (c *container) takeRest(p *pool, box map[string]any) {
	switch {
	case c.ipc == "host" || c.ipc == "private":
		box["ipc"] = c.ipc
	case c.ipc != "":
		p.note("left out: ipc %s: it is \"private\" or \"host\" here", show(c.ipc))
	}
	if c.shm > 0 {
		if c.shm%(1<<30) == 0 {
			box["shm_size"] = fmt.Sprintf("%dGiB", c.shm>>30)
		} else {
			box["shm_size"] = fmt.Sprintf("%dKiB", max(c.shm>>10, 64))
		}
	}
	switch {
	case c.user == "":
	case userName.MatchString(c.user):
		box["user"] = c.user
	default:
		p.note("decide: the user %s: write it as provisioning.container.user", show(c.user))
	}
	switch c.pull {
	case "":
	case "always", "missing", "never":
		box["pull"] = c.pull
	case "if_not_present":
		box["pull"] = "missing"
	default:
		p.note("left out: pull %s", show(c.pull))
	}
	switch policy, times, _ := strings.Cut(c.restart, ":"); policy {
	case "no":
		if c.restart == "no" {
			p.set("restart", map[string]any{"mode": "never"}, "")
		}
	case "on-failure":
		if times != "" {
			p.note("left out: restart %s: it is restarted after growing delays, without end", show(c.restart))
		}
	case "", "always", "unless-stopped":
	default:
		p.note("left out: restart %s", show(c.restart))
	}
	if c.grace != "" {
		p.takeDuration("stop", "grace", c.grace)
	}
	if c.workdir != "" {
		p.note("left out: the working directory %s in the container: paths in flags must not depend on it", show(c.workdir))
	}
}

var userName = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)
