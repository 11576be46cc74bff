package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/launch"
)

// ownNetwork is the name of a state directory's network. It has the id and not the path, which others may have as well.
func ownNetwork(ref launch.Ref) string { return fmt.Sprintf("engine-provisioner-%.12s", ref.StateID) }

// provideNetwork makes the state directory's network where it is missing, and proves that it keeps other containers out,
// as far as the runtime tells. An engine behind an API key needs no such proof.
func (r *runtime) provideNetwork(ctx context.Context, ref launch.Ref, keyed bool) error {
	ctx, cancel := r.bound(ctx)
	defer cancel()
	r.making.Lock() // Docker before 25 makes two of one name where it is asked twice at once
	defer r.making.Unlock()
	name := ownNetwork(ref)
	found, err := r.api.NetworkInspect(ctx, name, client.NetworkInspectOptions{})
	switch {
	case errdefs.IsNotFound(err):
		if err := r.makeNetwork(ctx, name, map[string]string{labelStateID: ref.StateID, labelStateDir: ref.StateDir}); err != nil {
			return explain(fmt.Errorf("cannot make the network %q: %w", name, err))
		}
	case err != nil:
		return fmt.Errorf("cannot look for the network %q: %w", name, err)
	case found.Network.Labels[labelStateID] != ref.StateID:
		return fmt.Errorf("the network %q is not ours, although it has our name; remove it", name)
	}
	if keyed || !r.podman {
		return nil
	}
	strict, err := r.strict(ctx, name)
	if err != nil || strict {
		return err
	}
	return &launch.Error{
		Cause: engine.CauseUnauthorized,
		Err:   errors.New("this Podman cannot keep other containers from the engine, and the engine asks for no key"),
		Advice: `set "api_key", or accept that with "network: bridge" in "provisioning.container"; ` +
			"a Podman whose networks know \"isolate=strict\" needs neither",
	}
}

// makeNetwork makes a bridge whose containers reach no other container, and are reached by none.
func (r *runtime) makeNetwork(ctx context.Context, name string, labels map[string]string) error {
	if !r.podman {
		// Docker keeps its bridges apart from each other; this keeps apart what is in one.
		_, err := r.api.NetworkCreate(ctx, name, client.NetworkCreateOptions{
			Driver: "bridge", Labels: labels, Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"},
		})
		return made(err)
	}
	// Podman does not keep its bridges apart by itself, and its Docker-compatible service takes no option for it (4.3.1).
	// "strict" is against all networks, and not known to that version; "true" against those that have the option as well.
	var err error
	for _, isolate := range []string{"strict", "true"} {
		body := map[string]any{"name": name, "driver": "bridge", "labels": labels, "options": map[string]string{"isolate": isolate}}
		if err = made(r.libpod(ctx, http.MethodPost, "/networks/create", body, nil)); err == nil {
			return nil
		}
	}
	return err
}

// made takes a network that another process has made meanwhile for ours.
func made(err error) error {
	if errdefs.IsConflict(err) || err != nil && strings.Contains(err.Error(), "already exists") {
		return nil
	}
	return err
}

// strict reports whether a network of Podman's lets no other container in.
func (r *runtime) strict(ctx context.Context, name string) (bool, error) {
	var found struct {
		Options map[string]string `json:"options"`
	}
	if err := r.libpod(ctx, http.MethodGet, "/networks/"+name+"/json", nil, &found); err != nil {
		return false, fmt.Errorf("cannot look at the network %q: %w", name, err)
	}
	return found.Options["isolate"] == "strict", nil
}

// dropNetwork removes the state directory's network when nothing is in it. Where something is, the runtime refuses; where
// something is being started, nothing is done: whoever leaves last removes it.
func (r *runtime) dropNetwork(ctx context.Context, ref launch.Ref) {
	if ref.StateID == "" || !r.starting.TryLock() {
		return
	}
	defer r.starting.Unlock()
	ctx, cancel := r.bound(ctx)
	defer cancel()
	_, _ = r.api.NetworkRemove(ctx, ownNetwork(ref), client.NetworkRemoveOptions{})
}

// noNetwork reports whether a container was not started because its network is gone: another process of this state
// directory has left it and removed it.
func noNetwork(err error, name string) bool {
	return err != nil && strings.Contains(err.Error(), name) && (errdefs.IsNotFound(err) || strings.Contains(err.Error(), "not found"))
}

// libpod asks Podman what its Docker-compatible service has no words for.
func (r *runtime) libpod(ctx context.Context, method, path string, body, answer any) error {
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://podman/v4.0.0/libpod"+path, &text)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", strings.TrimPrefix(r.socket, "unix://"))
	}
	resp, err := (&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	const limit = 1 << 20
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		var refused struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(data, &refused) // what is not JSON says nothing
		return fmt.Errorf("podman says %d: %q", resp.StatusCode, refused.Message)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(data, answer)
}
