package docker

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/launch"
)

// options describe the container of a launch.
func (i *instance) options(l launch.Launch) (client.ContainerCreateOptions, error) {
	c, own := l.Target.Container, l.Image
	grace := int((l.Grace + time.Second - 1) / time.Second)
	config := &container.Config{
		Image: l.Host.Binary.Path, Entrypoint: entrypoint(c, own), Cmd: l.Args, Env: l.Env, User: c.User, Labels: labels(i.ref),
		// For whoever stops it besides us, such as the runtime that is shut down.
		StopSignal: "SIGTERM", StopTimeout: &grace,
		// The image's own check asks the port that its authors use, and would cost an engine that works its good name.
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	init := true
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(c.Network), IpcMode: container.IpcMode(c.IPC), ShmSize: c.ShmSize,
		LogConfig: i.r.logConfig(), SecurityOpt: []string{"no-new-privileges"},
		// The kernel spares the first process of a container from signals that it has no handler for, and llama-server has
		// none while it loads. A small init in its place passes them on, and reaps what an engine leaves.
		Init: &init,
	}
	if host.ShmSize == 0 {
		host.ShmSize = own.ShmSize
	}
	if c.Network != "host" {
		if err := publish(config, host, l.Target.Host, l.Target.Port); err != nil {
			return client.ContainerCreateOptions{}, err
		}
	}
	volumes := c.Volumes
	if volumes == nil {
		volumes = own.Volumes
	}
	models, err := modelMounts(l.Host.ModelPath)
	if err != nil {
		return client.ContainerCreateOptions{}, err
	}
	host.Mounts = append(mounts(volumes), models...)
	if i.r.podman {
		host.Mounts, host.Binds = withoutCommas(host.Mounts)
	}
	host.DeviceRequests = i.r.devices(c, l.Host.GPUs)
	if len(host.DeviceRequests) == 0 {
		config.Env = append(config.Env, "NVIDIA_VISIBLE_DEVICES=void") // images of CUDA say "all", and a default runtime obeys
	}
	return client.ContainerCreateOptions{Name: i.name(), Config: config, HostConfig: host}, nil
}

// publish makes the engine's port one of the host's, on the configured address alone.
func publish(config *container.Config, host *container.HostConfig, address string, port int) error {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	inside, err := network.ParsePort(strconv.Itoa(port) + "/tcp")
	if err != nil {
		return err
	}
	config.ExposedPorts = network.PortSet{inside: {}}
	host.PortBindings = network.PortMap{inside: {{HostIP: addr, HostPort: strconv.Itoa(port)}}}
	return nil
}

// mounts are those of volumes, whose form was checked.
func mounts(volumes []string) []mount.Mount {
	var all []mount.Mount
	for _, v := range volumes {
		parts := strings.Split(v, ":")
		m := mount.Mount{Type: mount.TypeVolume, Source: parts[0], Target: parts[1], ReadOnly: len(parts) > 2 && parts[2] == "ro"}
		if strings.HasPrefix(m.Source, "/") {
			m.Type = mount.TypeBind
		}
		all = append(all, m)
	}
	return all
}

// withoutCommas finds another form for mounts with a comma in a path, which Podman takes for the end of it: its
// Docker-compatible service makes text of them (4.3.1).
func withoutCommas(all []mount.Mount) (mounts []mount.Mount, binds []string) {
	for _, m := range all {
		if !strings.Contains(m.Source+m.Target, ",") {
			mounts = append(mounts, m)
			continue
		}
		bind := m.Source + ":" + m.Target
		if m.ReadOnly {
			bind += ":ro"
		}
		binds = append(binds, bind)
	}
	return mounts, binds
}

var splitPattern = regexp.MustCompile(`-\d{5}-of-\d{5}\.gguf$`)

// modelMounts mount the model read-only under the path that it has here, so that flags and answers name it alike inside
// and outside. Of a model in parts all are mounted.
func modelMounts(path string) ([]mount.Mount, error) {
	if path == "" {
		return nil, nil
	}
	paths := []string{hubFolder(path)}
	if end := splitPattern.FindString(path); end != "" {
		var err error
		pattern := strings.TrimSuffix(path, end) + "-?????-of-" + end[len(end)-len("00001.gguf"):]
		if paths, err = filepath.Glob(pattern); err != nil {
			return nil, fmt.Errorf("cannot find the parts of the model %q: %w", path, err)
		}
	}
	var all []mount.Mount
	for _, target := range paths {
		source, err := filepath.EvalSymlinks(target) // a hub's cache links to its files
		if err != nil {
			return nil, fmt.Errorf("cannot mount the model: %w", err)
		}
		all = append(all, mount.Mount{Type: mount.TypeBind, Source: source, Target: target, ReadOnly: true})
	}
	return all, nil
}

// hubFolder is what must be mounted for a model: of one in the hub's cache, whose snapshot is a folder of links to
// "../../blobs", the folder of the repository.
func hubFolder(path string) string {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return path
	}
	snapshots := filepath.Dir(path)
	if repository := filepath.Dir(snapshots); filepath.Base(snapshots) == "snapshots" && strings.HasPrefix(filepath.Base(repository), "models--") {
		return repository
	}
	return path
}

// logConfig keeps the output where it can be read from the start, and from filling the disk: our own log has its own
// limit.
func (r *runtime) logConfig() container.LogConfig {
	if r.podman {
		return container.LogConfig{Type: "k8s-file", Config: map[string]string{"max-size": "64m"}}
	}
	return container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "32m", "max-file": "2"}}
}

// devices ask for GPUs. Podman knows them by CDI alone.
func (r *runtime) devices(c launch.Container, gpus []engine.GPU) []container.DeviceRequest {
	if len(gpus) == 0 {
		return nil
	}
	request := container.DeviceRequest{Driver: "nvidia", Capabilities: [][]string{{"gpu"}}}
	cdi := c.GPUDriver == "cdi" || c.GPUDriver == "" && r.podman
	if cdi {
		request = container.DeviceRequest{Driver: "cdi"}
	}
	for _, g := range gpus {
		id := g.UUID
		if cdi {
			id = "nvidia.com/gpu=" + strconv.Itoa(g.Index) // the names that nvidia-ctk gives
		}
		request.DeviceIDs = append(request.DeviceIDs, id)
	}
	return slices.Clip([]container.DeviceRequest{request})
}
