package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"github.com/llama-orch/engine-provisioner/internal/access"
)

// runtime is a Docker or Podman on this machine.
type runtime struct {
	socket string // "unix:///…"
	api    *client.Client
	podman bool

	making   sync.Mutex   // of networks
	starting sync.RWMutex // held by those that need their network to stay until their container is in it
}

// answerTime bounds a question to the runtime. On a busy machine the removal of a large container takes seconds.
const answerTime = time.Minute

// glanceTime bounds a look at a container that runs, which takes milliseconds. A start waits for it.
const glanceTime = 10 * time.Second

func (r *runtime) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, answerTime)
}

// runtime connects to the runtime at a socket, or at the usual one for "".
func (l *Launcher) runtime(ctx context.Context, socket string) (*runtime, error) {
	host, err := findSocket(socket)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.runtimes[host]; r != nil {
		return r, nil
	}
	api, err := client.New(client.WithHost(host))
	if err != nil {
		return nil, fmt.Errorf("cannot use the container runtime at %q: %w", host, err)
	}
	r := &runtime{socket: host, api: api}
	ctx, cancel := context.WithTimeout(ctx, answerTime/2)
	defer cancel()
	version, err := api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		if denied := access.Denied(strings.TrimPrefix(host, "unix://"), "write"); denied != "" {
			err = fmt.Errorf("%w: %s; %s", fs.ErrPermission, denied, access.Remedy) // the client says less
		}
		return nil, errors.Join(fmt.Errorf("cannot reach the container runtime at %q: %w; start it, or name another socket in "+
			`"provisioning.container.runtime_socket"`, host, err), api.Close())
	}
	// Versions of the two say nothing of each other.
	r.podman = slices.ContainsFunc(version.Components, func(c system.ComponentVersion) bool {
		return strings.Contains(c.Name, "Podman")
	})
	l.runtimes[host] = r
	return r, nil
}

// findSocket completes what the configuration says.
func findSocket(socket string) (string, error) {
	if socket != "" {
		return "unix://" + strings.TrimPrefix(socket, "unix://"), nil
	}
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		if !strings.HasPrefix(host, "unix://") {
			return "", fmt.Errorf("cannot use DOCKER_HOST %q: the runtime must be on this machine; name its socket in "+
				`"provisioning.container.runtime_socket"`, host)
		}
		return host, nil
	}
	var tried []string
	for _, path := range usualSockets() {
		info, err := os.Stat(path)
		if err == nil && info.Mode().Type() == fs.ModeSocket {
			return "unix://" + path, nil
		}
		tried = append(tried, path)
	}
	return "", fmt.Errorf("no container runtime on this machine (looked for %s); start Docker, or \"podman system service\", or name its socket in "+
		`"provisioning.container.runtime_socket"`, strings.Join(tried, ", "))
}

func usualSockets() []string {
	var paths []string
	user := os.Getenv("XDG_RUNTIME_DIR")
	for _, name := range []string{"docker.sock", "podman/podman.sock"} {
		if user != "" {
			paths = append(paths, filepath.Join(user, name))
		}
		paths = append(paths, filepath.Join("/run", name))
	}
	return paths
}

// notFound reports whether err says that there is no such container. Podman says 500 to one that is just being removed.
func notFound(err error) bool {
	return errdefs.IsNotFound(err) || err != nil && strings.Contains(err.Error(), "no such container")
}

// gone reports whether err says that there is no such container, or that it does not run.
func gone(err error) bool {
	return notFound(err) || errdefs.IsConflict(err) || err != nil && strings.Contains(err.Error(), "not running")
}
