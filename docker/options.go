package docker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/launch"
)

// options describe the container of a launch.
func (i *instance) options(ctx context.Context, l launch.Launch) (client.ContainerCreateOptions, error) {
	c, own := l.Target.Container, l.Image
	grace := int((l.Grace + time.Second - 1) / time.Second)
	config := &container.Config{
		Image: l.Host.Binary.Path, Entrypoint: entrypoint(c, own), Cmd: l.Args, User: c.User, Labels: labelsOf(i.ref),
		// For whoever stops it besides us, such as the runtime that is shut down.
		StopSignal: "SIGTERM", StopTimeout: &grace,
		// The image's own check asks the port that its authors use, and would cost an engine that works its good name.
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	init := true
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(cmp.Or(c.Network, ownNetwork(i.ref))), IpcMode: container.IpcMode(c.IPC), ShmSize: c.ShmSize,
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
	model, err := modelMounts(l.Host.ModelPath)
	if err != nil {
		return client.ContainerCreateOptions{}, err
	}
	host.Mounts = append(mounts(volumes), model...)
	if i.r.podman {
		if host.Mounts, host.Binds, err = forPodman(host.Mounts); err != nil {
			return client.ContainerCreateOptions{}, err
		}
	}
	gpus := l.Host.GPUs
	config.Env = insideEnv(l.Env, gpus)
	if err := i.r.giveDevices(ctx, host, c.GPUDriver, gpus); err != nil {
		return client.ContainerCreateOptions{}, err
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

// forPodman finds another form for mounts with a comma or a quote in a path: Podman's Docker-compatible service makes text
// of a mount and reads it as a line of CSV (4.3.1).
func forPodman(all []mount.Mount) (mounts []mount.Mount, binds []string, err error) {
	for _, m := range all {
		paths := m.Source + m.Target
		if !strings.ContainsAny(paths, `,"`) {
			mounts = append(mounts, m)
			continue
		}
		if strings.Contains(paths, ":") {
			return nil, nil, fmt.Errorf(`cannot mount %q: Podman takes no path with a colon beside a comma or a quote; rename it`, m.Source)
		}
		bind := m.Source + ":" + m.Target
		if m.ReadOnly {
			bind += ":ro"
		}
		binds = append(binds, bind)
	}
	return mounts, binds, nil
}

// modelMounts mount the model read-only under the path that it has here, so that flags and answers name it alike inside
// and outside. Of a model in parts all are mounted.
func modelMounts(path string) ([]mount.Mount, error) {
	if path == "" {
		return nil, nil
	}
	var all []mount.Mount
	for _, target := range models.SplitNames(hubFolder(path)) {
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
