package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/client"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/launch"
)

// name is the container's, for people: nothing is found by it.
func (i *instance) name() string {
	return fmt.Sprintf("ep-%s-%s-%.8s", i.ref.Pool, i.ref.Replica, i.ref.LaunchID)
}

// Start creates the container, makes sure that it is what was asked for, and starts it.
func (i *instance) Start(ctx context.Context, l launch.Launch) error {
	err := i.start(ctx, l)
	if err == nil {
		return nil
	}
	err = errors.Join(err, i.undo(ctx))
	i.r.dropNetwork(context.WithoutCancel(ctx), i.ref)
	return errors.Join(err, i.log.remove())
}

// undo removes the container, if there is one.
func (i *instance) undo(ctx context.Context) error {
	if i.id == "" {
		return nil
	}
	err := i.r.remove(context.WithoutCancel(ctx), i.id)
	i.id = ""
	return err
}

func (i *instance) start(ctx context.Context, l launch.Launch) error {
	if err := i.removeOrphans(ctx, l.Note); err != nil {
		return err
	}
	if err := i.log.create(); err != nil {
		return err
	}
	options, err := i.options(ctx, l)
	if err != nil {
		return err
	}
	if i.r.podman && !i.r.checksHealth(ctx, options.Config.Image) {
		options.Config.Healthcheck = nil // Podman makes a timer of systemd's for NONE, too
	}
	err = i.run(ctx, l, options)
	if noNetwork(err, ownNetwork(i.ref)) {
		if err = i.undo(ctx); err == nil {
			err = i.run(ctx, l, options)
		}
	}
	if err != nil {
		return err
	}
	i.onHost = options.HostConfig.NetworkMode.IsHost()
	state, err := i.inspect(ctx)
	if err != nil {
		return err
	}
	if running(state) {
		i.pid = state.Pid
	}
	return nil
}

// run creates the container and starts it.
func (i *instance) run(ctx context.Context, l launch.Launch, options client.ContainerCreateOptions) error {
	if l.Target.Container.Network == "" {
		i.r.starting.RLock()
		defer i.r.starting.RUnlock()
		if err := i.r.provideNetwork(ctx, i.ref, l.Target.Keyed); err != nil {
			return err
		}
	}
	created, err := i.r.api.ContainerCreate(ctx, options)
	if err != nil {
		return explain(fmt.Errorf("cannot create the container: %w", err))
	}
	i.id = created.ID
	found, err := i.look(ctx)
	if err != nil {
		return err
	}
	if err := checkDevices(options.HostConfig, found.HostConfig); err != nil {
		return err
	}
	if _, err := i.r.api.ContainerStart(ctx, i.id, client.ContainerStartOptions{}); err != nil {
		return explain(fmt.Errorf("cannot start the container: %w", err))
	}
	return nil
}

// checksHealth reports whether an image has a health check of its own, or may have one.
func (r *runtime) checksHealth(ctx context.Context, image string) bool {
	found, err := r.api.ImageInspect(ctx, image)
	return err != nil || found.Config != nil && found.Config.Healthcheck != nil
}

// removeOrphans removes containers of the replica that no record tells of any more. This start holds the replica's lock,
// and the record's launch is known to be over. What is not proven to be ours is told and left alone.
func (i *instance) removeOrphans(ctx context.Context, note func(string)) error {
	list, err := i.r.labeled(ctx, map[string]string{labelPool: i.ref.Pool, labelReplica: i.ref.Replica})
	if err != nil {
		return err
	}
	for _, c := range list {
		switch {
		case ours(i.ref, c):
			if err := i.r.remove(ctx, c.ID); err != nil {
				return err
			}
			note(fmt.Sprintf("removed a container that an earlier manager had left: %.12s (%s)", c.ID, c.Status))
		case unclaimed(i.ref, c):
			note(fmt.Sprintf("left a container alone that has the path of this state directory and not its id: %.12s (%s); "+
				"remove it if no other manager has that path", c.ID, c.Status))
		}
	}
	return nil
}

// explain finds the cause in the runtime's words.
func explain(err error) error {
	text := err.Error()
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	switch {
	case has("non-overlapping IPv4 address pool", "could not find free subnet", "all predefined address pools"):
		return &launch.Error{Cause: engine.CauseUnknown, Err: err, Advice: `remove networks that nothing uses (docker network prune), or name one that ` +
			`is there in "provisioning.container.network"`}
	case has("could not select device driver", "unresolvable CDI devices", "CDI device injection failed", "nvidia-container-cli"):
		return &launch.Error{Cause: engine.CauseDriver, Err: err, Advice: "install the NVIDIA Container Toolkit and set it up for this runtime " +
			`(nvidia-ctk runtime configure, or nvidia-ctk cdi generate with "gpu_driver: cdi")`}
	case has("error gathering device information", "stat /dev/", "adding custom device"):
		return &launch.Error{Cause: engine.CauseDriver, Err: err, Advice: "load the GPU's driver on the machine of the runtime, or let go of the device: see ls -l /dev/kfd /dev/dri"}
	case has("port is already allocated", "address already in use"):
		return &launch.Error{Cause: engine.CausePortInUse, Err: err, Advice: `stop what uses the port, or change "port"`}
	case has("cannot assign requested address"):
		return &launch.Error{Cause: engine.CauseBadAddress, Err: err, Advice: `set "host" to an address of the machine that the container runs on`}
	case has("cannot expose privileged port", "bind: permission denied"): // a runtime without root
		return &launch.Error{Cause: engine.CausePortForbidden, Err: err, Advice: `take a "port" from 1024 on, or let the runtime use lower ones (sysctl net.ipv4.ip_unprivileged_port_start)`}
	case has("executable file not found", "no such file or directory: unknown", "command that was not found", "exec format error"):
		return &launch.Error{Cause: engine.CauseLibMissing, Err: err, Advice: `the image lacks the engine's command; check "image" and "entrypoint"`}
	}
	return err
}
