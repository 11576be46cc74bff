package docker

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/settings"
)

// dialEnv makes this test binary say whether it reaches an address.
const dialEnv = "ENGINE_PROVISIONER_TEST_DIAL"

const reached = "reached"

func dial(address string) string {
	conn, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err != nil {
		return err.Error()
	}
	_ = conn.Close()
	return reached
}

// networks are those of the state directory.
func (rt testRuntime) networks(t testing.TB, cfg provisioner.ProvisionConfig) []string {
	t.Helper()
	list, err := rt.api(t).NetworkList(context.Background(), client.NetworkListOptions{
		Filters: client.Filters{}.Add("label", labelStateDir+"="+cfg.StateDir),
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range list.Items {
		names = append(names, n.Name)
	}
	return names
}

// from tells what a container in a network reaches of the engine's container.
func (rt testRuntime) from(t testing.TB, network string, cfg provisioner.ProvisionConfig) string {
	t.Helper()
	found, err := rt.api(t).ContainerInspect(bounded(t), rt.containers(t, cfg)[0], client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	address := ""
	for _, n := range found.Container.NetworkSettings.Networks {
		address = net.JoinHostPort(n.IPAddress.String(), strconv.Itoa(cfg.Port))
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := rt.launcher.runtime(bounded(t), rt.socket)
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := r.output(bounded(t), client.ContainerCreateOptions{
		Config:     &container.Config{Image: imageName + ":" + imageTag, Entrypoint: []string{"/dialer"}, Env: []string{dialEnv + "=" + address}},
		HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(network), Mounts: mounts([]string{exe + ":/dialer:ro"}), LogConfig: r.logConfig()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(text)
}

// keyed gives the engine an API key, for a runtime whose networks keep nobody out.
func (rt testRuntime) keyed(t testing.TB, cfg provisioner.ProvisionConfig) provisioner.ProvisionConfig {
	t.Helper()
	c := *cfg.Provisioning.Container
	c.Network = ""
	cfg.Provisioning.Container = &c
	if rt.name == "podman" {
		if err := os.WriteFile(filepath.Join(cfg.Dir, "key"), []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.APIKey = &settings.SecretRef{FromFile: "key"}
	}
	return cfg
}

// TestOwnNetwork looks whom the engine of a default network is exposed to.
func TestOwnNetwork(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.keyed(t, rt.config(t))
		p, h := rt.ready(t, cfg)
		own := rt.networks(t, cfg)
		if len(own) != 1 || !strings.HasPrefix(own[0], "engine-provisioner-") {
			t.Fatalf("networks %q", own)
		}
		if rt.name == "docker" { // of Podman's version here, the engine must ask for a key
			for _, network := range []string{"bridge", own[0]} {
				if text := rt.from(t, network, cfg); !strings.Contains(text, "timeout") {
					t.Errorf("from the network %q: %s", network, text)
				}
			}
		}
		if text := dial(strings.TrimPrefix(h.URL, "http://")); text != reached {
			t.Errorf("from the host: %s", text)
		}
		if err := p.Stop(bounded(t)); err != nil {
			t.Error(err)
		}
	})
}

// TestBridge is what TestOwnNetwork would see without a network of its own.
func TestBridge(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		cfg.Provisioning.Container.Network = "bridge"
		rt.ready(t, cfg)
		if text := rt.from(t, "bridge", cfg); text != reached {
			t.Errorf("from the bridge: %s", text)
		}
		if own := rt.networks(t, cfg); len(own) > 0 {
			t.Errorf("networks %q", own)
		}
	})
}

// TestNetworkOfMany starts and stops replicas of one state directory at once, each of which may be the last.
func TestNetworkOfMany(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.keyed(t, faking(t, rt.config(t), enginetest.Behavior{}))
		var all sync.WaitGroup
		for i := range 4 {
			one := cfg
			one.ReplicaID, one.Port = "r"+strconv.Itoa(i), enginetest.FreePort(t, 1)
			all.Go(func() {
				for range 3 {
					p, err := provisioner.New(one, provisioner.WithLauncher(rt.launcher), provisioner.WithCacheDir(t.TempDir()))
					if err != nil {
						t.Error(err)
						return
					}
					if err := p.Start(bounded(t)); err != nil {
						t.Error(err)
					}
					if err := p.Kill(context.Background()); err != nil && !errors.Is(err, provisioner.ErrKilled) {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		rt.nothingLeft(t, cfg)
	})
}

// TestPodmanWantsAKey: a version that cannot keep other containers out starts no engine that answers all of them.
func TestPodmanWantsAKey(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.keyed(t, rt.config(t))
		cfg.APIKey = nil
		p, _ := rt.launch(t, cfg)
		err := p.Start(bounded(t))
		var start *provisioner.StartError
		if rt.name == "docker" {
			if err != nil {
				t.Errorf("Start: %v", err)
			}
			return
		}
		if !errors.As(err, &start) || start.Cause != engine.CauseUnauthorized || !strings.Contains(err.Error(), `set "api_key", or accept that with "network: bridge"`) {
			t.Errorf("Start: %v", err)
		}
		rt.nothingLeft(t, cfg)
	})
}

// TestNetworkTaken: what has the name of a network of ours, and not the id, is another's.
func TestNetworkTaken(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		ref := launch.Ref{StateDir: t.TempDir(), StateID: "feedfeedfeed" + rt.name}
		r, err := rt.launcher.runtime(bounded(t), rt.socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.api.NetworkCreate(bounded(t), ownNetwork(ref), client.NetworkCreateOptions{Driver: "bridge"}); err != nil {
			t.Fatal(err)
		}
		defer r.dropNetwork(context.Background(), ref)
		if err := r.provideNetwork(bounded(t), ref, true); err == nil || !strings.Contains(err.Error(), "is not ours") {
			t.Errorf("taken: %v", err)
		}
	})
}
