package docker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/launch"
)

// Launcher performs launches in containers. Its methods are safe for concurrent use.
type Launcher struct {
	mu       sync.Mutex
	runtimes map[string]*runtime // by socket
}

var _ launch.Launcher = (*Launcher)(nil)

// New returns a Launcher. It connects to a runtime when the first launch needs one.
func New() *Launcher { return &Launcher{runtimes: map[string]*runtime{}} }

// Close closes connections that are not in use. The Launcher can be used on.
func (l *Launcher) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for socket, r := range l.runtimes {
		err = errors.Join(err, r.api.Close())
		delete(l.runtimes, socket)
	}
	return err
}

// Mode is "container".
func (l *Launcher) Mode() string { return "container" }

// entrypoint is the command that the flags are for; nil is the image's own.
func entrypoint(c launch.Container, own engine.Image) []string {
	if c.Entrypoint != nil {
		return c.Entrypoint
	}
	return own.Entrypoint
}

// Locate looks for the image among those of the runtime.
func (l *Launcher) Locate(ctx context.Context, to launch.Target, program engine.Program) (b engine.Binary, pending string, err error) {
	c := to.Container
	ref := c.Image
	r, err := l.runtime(ctx, c.RuntimeSocket)
	if err != nil {
		return b, "", err
	}
	b, err = r.image(ctx, ref, entrypoint(c, program.Image))
	switch {
	case !errdefs.IsNotFound(err):
		return b, "", err
	case c.Pull == "never":
		return b, "", fmt.Errorf(`the image %q is not on this node, and "provisioning.container.pull" is "never"; pull it, or allow that`, ref)
	}
	return engine.Binary{}, fmt.Sprintf("pull the image %q", ref), nil
}

// Fetch pulls the image where it is missing, or in any case where the configuration says so.
func (l *Launcher) Fetch(ctx context.Context, to launch.Target, program engine.Program, tell func(launch.Progress)) (engine.Binary, error) {
	c := to.Container
	b, pending, err := l.Locate(ctx, to, program)
	if err != nil || pending == "" && c.Pull != "always" {
		return b, err
	}
	r, err := l.runtime(ctx, c.RuntimeSocket)
	if err != nil {
		return b, err
	}
	ref := c.Image
	if err := r.pull(ctx, ref, tell); err != nil {
		return b, fmt.Errorf("cannot pull the image %q: %w", ref, err)
	}
	return r.image(ctx, ref, entrypoint(c, program.Image))
}

// image tells what an image is. The entrypoint counts, since it makes one image another program.
func (r *runtime) image(ctx context.Context, ref string, entrypoint []string) (engine.Binary, error) {
	ctx, cancel := r.bound(ctx)
	defer cancel()
	found, err := r.api.ImageInspect(ctx, ref)
	if err != nil {
		return engine.Binary{}, fmt.Errorf("cannot look for the image %q: %w", ref, err)
	}
	h := sha256.New()
	_ = json.NewEncoder(h).Encode([]any{found.ID, entrypoint})
	return engine.Binary{Path: ref, Digest: hex.EncodeToString(h.Sum(nil))}, nil
}

// Reserve chooses the runtime.
func (l *Launcher) Reserve(to launch.Target, ref launch.Ref) (launch.Instance, error) {
	if ref.StateID == "" {
		return nil, errors.New("cannot reserve a container: the state directory has no id")
	}
	r, err := l.runtime(context.Background(), to.Container.RuntimeSocket)
	if err != nil {
		return nil, err
	}
	ref.Runtime = r.socket
	// Every container has a folder of this name of its own, which goes with it.
	ref.TempDir = "/tmp"
	return newInstance(r, ref), nil
}

// Find looks for the container of a launch by its labels.
func (l *Launcher) Find(ctx context.Context, ref launch.Ref) (launch.Instance, error) {
	r, err := l.runtime(ctx, ref.Runtime)
	if err != nil {
		return nil, err
	}
	i := newInstance(r, ref)
	return i, i.find(ctx)
}

// remove removes a container with its anonymous volumes, dead or alive.
func (r *runtime) remove(ctx context.Context, id string) error {
	ctx, cancel := r.bound(ctx)
	defer cancel()
	for {
		_, err := r.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		switch {
		case err == nil, notFound(err):
			return nil
		case !errdefs.IsConflict(err): // another program is removing it, which is waited for
			return fmt.Errorf("cannot remove the container %.12s: %w", id, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot remove the container %.12s: %w", id, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
