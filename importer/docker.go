package importer

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/llama-orch/engine-provisioner/internal/dockerrun"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/redact"
)

// dockerRun reads what stands behind "docker run". env is that of the shell around it, which "-e NAME" refers to.
func dockerRun(args []string, env map[string]string) (*container, error) {
	run, err := dockerrun.Read(args)
	if err != nil {
		return nil, err
	}
	c := &container{image: run.Image, command: run.Command, env: map[string]*string{}}
	for _, flag := range run.Flags {
		if err := c.takeRunFlag(flag.Name, flag.Value, env); err != nil {
			return nil, err
		}
	}
	if len(c.started) > 0 {
		c.note("left out: %s: the provisioner makes, watches and removes the container", strings.Join(c.started, " "))
	}
	return c, nil
}

// takeRunFlag takes one flag of "docker run".
func (c *container) takeRunFlag(name, value string, env map[string]string) error {
	switch name {
	case "env":
		key, text, given := strings.Cut(value, "=")
		outer, known := env[key]
		switch {
		case given:
			c.env[key] = &text
		case known:
			c.env[key] = &outer
		default:
			c.env[key] = nil
		}
	case "publish":
		port, ok := parsePublish(value)
		if !ok {
			c.note("decide: --publish %s: write the port that it shall listen on as \"port\"", show(value))
			return nil
		}
		c.ports = append(c.ports, port)
	case "volume":
		parts := strings.Split(value, ":")
		if len(parts) < 2 {
			c.note("left out: --volume %s: an anonymous volume", show(value))
			return nil
		}
		c.mounts = append(c.mounts, mount{source: parts[0], target: parts[1], options: strings.Join(parts[2:], ",")})
	case "mount":
		c.takeMount(value)
	case "gpus":
		c.gpu.takeGPUs(value)
	case "device":
		c.takeDevice(value)
	case "runtime":
		c.gpu.runtime = value == "nvidia"
		if value != "nvidia" {
			c.leftOut("--runtime", value)
		}
	case "entrypoint":
		c.entrypoint = []string{}
		if value != "" {
			c.entrypoint = []string{value}
		}
	case "network", "net":
		c.network = value
	case "ipc":
		c.ipc = value
	case "shm-size":
		size, err := units.RAMInBytes(value)
		if err != nil {
			return fmt.Errorf("cannot understand --shm-size %q", show(value))
		}
		c.shm = size
	case "user":
		c.user = value
	case "pull":
		c.pull = value
	case "restart":
		c.restart = value
	case "name":
		c.name = value
	case "stop-timeout":
		c.grace = value + "s"
	case "workdir":
		c.workdir = value
	case "env-file":
		c.note("decide: --env-file %s was not read: write its variables under \"env\", and secrets as {from_env: NAME}", show(value))
	case "rm", "detach", "tty", "interactive", "init", "quiet", "sig-proxy", "replace", "rmi":
		c.started = append(c.started, "--"+name)
	default:
		c.leftOut("--"+name, value)
	}
	return nil
}

// leftOut says of a setting that it has no place.
func (c *container) leftOut(name, value string) {
	if redact.Name(name) {
		value = redact.Word
	}
	c.note("left out: %s: a container has no key for it here", strings.TrimSpace(name+" "+show(value)))
}

// takeMount takes "type=bind,source=/a,target=/b,readonly".
func (c *container) takeMount(value string) {
	var m mount
	kind := "volume"
	for field := range strings.SplitSeq(value, ",") {
		key, v, given := strings.Cut(field, "=")
		switch key {
		case "type":
			kind = v
		case "source", "src":
			m.source = v
		case "target", "destination", "dst":
			m.target = v
		case "readonly", "ro":
			if !given || v == "true" || v == "1" {
				m.options = "ro"
			}
		}
	}
	if m.source == "" || m.target == "" || kind != "bind" && kind != "volume" {
		c.leftOut("--mount", value)
		return
	}
	c.mounts = append(c.mounts, m)
}

// takeDevice takes a device; those of NVIDIA by CDI are GPUs.
func (c *container) takeDevice(value string) {
	switch id, ok := strings.CutPrefix(value, "nvidia.com/gpu="); {
	case ok && id == "all":
		c.gpu.all = true
	case ok:
		c.gpu.ids = append(c.gpu.ids, id)
	default:
		c.gpu.devices = append(c.gpu.devices, value)
	}
}

var publishPattern = lazyregexp.New(`^(?:(?:(\[[0-9A-Fa-f:]+\]|[0-9.]+):)?([0-9]*):)?([0-9]+)(?:/tcp)?$`)

// parsePublish reads "[IP:][PORT:]TARGET[/tcp]", of single ports.
func parsePublish(value string) (published, bool) {
	m := publishPattern.FindStringSubmatch(value)
	if m == nil {
		return published{}, false
	}
	host, _ := strconv.Atoi(m[2])
	target, _ := strconv.Atoi(m[3])
	if target < 1 || target > 65535 || host > 65535 {
		return published{}, false
	}
	return published{ip: strings.Trim(m[1], "[]"), host: host, target: target}, true
}

// takeGPUs takes the value of --gpus: "all", a number, or "device=0,1" in quotes of its own.
func (g *gpuRequest) takeGPUs(value string) {
	value = strings.Trim(value, `"'`)
	for field := range strings.SplitSeq(strings.ReplaceAll(value, `"`, ""), ",") {
		field = strings.TrimSpace(field)
		key, v, given := strings.Cut(field, "=")
		n, err := strconv.Atoi(field)
		switch {
		case field == "all" || key == "count" && (v == "all" || v == "-1"):
			g.all = true
		case key == "device":
			g.ids = append(g.ids, v)
		case key == "count":
			g.count, _ = strconv.Atoi(v)
		case given: // driver, capabilities
		case len(g.ids) > 0: // "device=0,1"
			g.ids = append(g.ids, field)
		case err == nil && n > 0:
			g.count = n
		case err == nil && n < 0:
			g.all = true
		}
	}
}
