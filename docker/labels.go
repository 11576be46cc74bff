package docker

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/llama-orch/engine-provisioner/launch"
)

// The labels of a container. They say whose it is; what proves it is that a record has its launch's id, or that this state
// directory holds its own id: two managers in containers of their own can have one path and one socket.
const (
	labelStateDir = "engine-provisioner.state-dir"
	labelStateID  = "engine-provisioner.state-id"
	labelPool     = "engine-provisioner.pool"
	labelReplica  = "engine-provisioner.replica"
	labelLaunchID = "engine-provisioner.launch-id"

	labelAsked = "engine-provisioner.asked" // of a container that only says its version: when it began
)

// recorded are the labels by which the container of a recorded launch is found. Those of earlier versions bear no id of
// the state directory.
func recorded(ref launch.Ref) map[string]string {
	return map[string]string{
		labelStateDir: ref.StateDir, labelPool: ref.Pool, labelReplica: ref.Replica, labelLaunchID: ref.LaunchID,
	}
}

// labelsOf are the labels of a new container.
func labelsOf(ref launch.Ref) map[string]string {
	labels := recorded(ref)
	labels[labelStateID] = ref.StateID
	return labels
}

// ours reports whether a container is of the state directory of ref, whatever path that had.
func ours(ref launch.Ref, c container.Summary) bool {
	return ref.StateID != "" && c.Labels[labelStateID] == ref.StateID
}

// unclaimed reports whether a container may be of the state directory of ref, and nothing proves it: an earlier version
// has made it, or the directory was made anew.
func unclaimed(ref launch.Ref, c container.Summary) bool {
	return !ours(ref, c) && c.Labels[labelStateDir] == ref.StateDir
}

// launched lists the containers of a recorded launch.
func (i *instance) launched(ctx context.Context) ([]container.Summary, error) {
	return i.r.labeled(ctx, recorded(i.ref))
}

// labeled lists the containers with these labels, in whatever state.
func (r *runtime) labeled(ctx context.Context, labels map[string]string) ([]container.Summary, error) {
	ctx, cancel := r.bound(ctx)
	defer cancel()
	filters := client.Filters{}
	for name, value := range labels {
		filters.Add("label", name+"="+value)
	}
	for tries := 1; ; tries++ {
		list, err := r.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
		switch {
		case err == nil:
			return list.Items, nil
		case tries == 5 || !errdefs.IsInternal(err): // Podman's list fails while any of its containers is dying
			return nil, fmt.Errorf("cannot list the containers: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}
