package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// notes are what was told of a launch beside its states.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) add(e provisioner.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Kind == provisioner.EventNote {
		n.lines = append(n.lines, e.Message)
	}
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.lines, "\n")
}

// launch is one launch that is stopped when the test ends, and then is proven to have left nothing.
func (rt testRuntime) launch(t testing.TB, cfg provisioner.ProvisionConfig) (*provisioner.EngineProvisioner, *notes) {
	t.Helper()
	told := &notes{}
	p, err := provisioner.New(cfg, provisioner.WithLauncher(rt.launcher), provisioner.WithCacheDir(t.TempDir()),
		provisioner.WithEventFunc(told.add))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(context.Background()); err != nil && !errors.Is(err, provisioner.ErrKilled) && !errors.Is(err, provisioner.ErrReleased) {
			t.Errorf("cannot stop: %v", err)
		}
		rt.nothingLeft(t, cfg)
	})
	return p, told
}

func (rt testRuntime) ready(t testing.TB, cfg provisioner.ProvisionConfig) (*provisioner.EngineProvisioner, provisioner.Handoff) {
	t.Helper()
	p, _ := rt.launch(t, cfg)
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	h, err := p.WaitReady(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	return p, h
}

// attached is the replica's engine as another program takes hold of it.
func (rt testRuntime) attached(t testing.TB, cfg provisioner.ProvisionConfig) *provisioner.EngineProvisioner {
	t.Helper()
	p, err := provisioner.Attach(cfg.StateDir, cfg.ID(), provisioner.WithLauncher(rt.launcher))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// containers are those of the replica, in whatever state.
func (rt testRuntime) containers(t testing.TB, cfg provisioner.ProvisionConfig) []string {
	t.Helper()
	r, err := rt.launcher.runtime(context.Background(), rt.socket)
	if err != nil {
		t.Fatal(err)
	}
	list, err := r.labeled(context.Background(), map[string]string{labelStateDir: cfg.StateDir})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	return ids
}

func (rt testRuntime) nothingLeft(t testing.TB, cfg provisioner.ProvisionConfig) {
	t.Helper()
	for _, id := range rt.containers(t, cfg) {
		t.Errorf("container left: %.12s", id)
		r, _ := rt.launcher.runtime(context.Background(), rt.socket)
		_ = r.remove(context.Background(), id)
	}
	for _, name := range rt.networks(t, cfg) {
		t.Errorf("network left: %s", name)
		_, _ = rt.api(t).NetworkRemove(context.Background(), name, client.NetworkRemoveOptions{})
	}
}

func awaitDone(t testing.TB, p *provisioner.EngineProvisioner) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatalf("still %s", p.Status().State)
	}
}

func readLog(t testing.TB, p *provisioner.EngineProvisioner) string {
	t.Helper()
	data, err := os.ReadFile(p.Status().Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func statusAt(t testing.TB, url string) int {
	t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestRealLife(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		began := time.Now()
		p, h := rt.ready(t, cfg)
		t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
		if h.ProvisioningMode != "container" || !strings.HasPrefix(h.EngineVersion, "b") || h.Answer != "ok" || h.Process.PID == 0 {
			t.Errorf("handoff: %+v", h)
		}
		if code := statusAt(t, h.URL+"/metrics"); code != http.StatusOK {
			t.Errorf("metrics: %d", code)
		}
		rt.checkContainer(t, cfg)

		began = time.Now()
		if err := p.Stop(bounded(t)); err != nil {
			t.Error(err)
		}
		t.Logf("stopped after %s", time.Since(began).Round(time.Millisecond))
		if s := p.Status(); s.State != provisioner.StateStopped || s.Exit != "code 0" {
			t.Errorf("status: %+v", s)
		}
		if log := readLog(t, p); !strings.Contains(log, "listening on http://0.0.0.0:") || strings.Count(log, "model loaded") != 1 {
			t.Errorf("log:\n%s", log)
		}
	})
}

// checkContainer holds what the runtime says of a running container against what was asked for.
func (rt testRuntime) checkContainer(t *testing.T, cfg provisioner.ProvisionConfig) {
	t.Helper()
	ids := rt.containers(t, cfg)
	if len(ids) != 1 {
		t.Fatalf("containers: %v", ids)
	}
	found, err := rt.api(t).ContainerInspect(bounded(t), ids[0], client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := found.Container
	if c.Config.Labels[labelPool] != "pool" || c.Config.Labels[labelReplica] != "r0" || len(c.Config.Labels[labelLaunchID]) != 32 {
		t.Errorf("labels: %v", c.Config.Labels)
	}
	if c.State.Health != nil && c.State.Health.Status != "" && c.State.Health.Status != "none" {
		t.Errorf("health check: %+v", c.State.Health)
	}
	for port, bindings := range c.HostConfig.PortBindings {
		if len(bindings) != 1 || bindings[0].HostIP.String() != "127.0.0.1" {
			t.Errorf("published: %v on %v", port, bindings)
		}
	}
	if len(c.HostConfig.PortBindings) != 1 {
		t.Errorf("published: %v", c.HostConfig.PortBindings)
	}
	readOnly := false
	for _, m := range c.Mounts {
		readOnly = readOnly || m.Destination == cfg.Model.ID && !m.RW
	}
	if !readOnly {
		t.Errorf("mounts: %+v", c.Mounts)
	}
}

// faking makes the container run this test binary as an engine that behaves like b.
func faking(t testing.TB, cfg provisioner.ProvisionConfig, b enginetest.Behavior) provisioner.ProvisionConfig {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	behavior, err := json.Marshal(map[string]any{"Cookie": "container", "Behavior": b})
	if err != nil {
		t.Fatal(err)
	}
	c := *cfg.Provisioning.Container
	c.Volumes = []string{exe + ":/engine:ro"}
	c.Entrypoint = []string{"/engine", "-enginetest", string(behavior)}
	cfg.Provisioning.Container = &c
	return cfg
}

// TestFailedLoads dies in different ways before it is ready.
func TestFailedLoads(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags  []string
		death  *enginetest.Death
		code   int
		signal string
		words  string
	}{
		"exit code": {death: &enginetest.Death{After: 100 * time.Millisecond, Code: 3, Stderr: "something is wrong"}, code: 3, words: "something is wrong"},
		"signal":    {death: &enginetest.Death{After: 100 * time.Millisecond, Signal: syscall.SIGKILL}, code: -1, signal: "killed"},
		"bad flag":  {flags: []string{"--spec-type", "no-such-type"}, code: 1, words: "spec-type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachRuntime(t, func(t *testing.T, rt testRuntime) {
				cfg := rt.config(t)
				cfg.Flags = append(cfg.Flags, c.flags...)
				if c.death != nil {
					cfg = faking(t, cfg, enginetest.Behavior{LoadTime: time.Hour, DieLoading: c.death})
				}
				p, _ := rt.launch(t, cfg)
				if err := p.Start(bounded(t)); err != nil {
					t.Fatal(err)
				}
				_, err := p.WaitReady(bounded(t))
				var exit *provisioner.ExitError
				if !errors.As(err, &exit) || exit.Ready {
					t.Fatalf("WaitReady: %v", err)
				}
				if exit.Code != c.code || exit.Signal != c.signal || !strings.Contains(strings.Join(exit.LogTail, "\n"), c.words) {
					t.Errorf("code %d, signal %q, last lines %q", exit.Code, exit.Signal, exit.LogTail)
				}
				rt.nothingLeft(t, cfg)
			})
		})
	}
}

// TestKilledFromOutside also finds out how soon the end is seen.
func TestKilledFromOutside(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		p, h := rt.ready(t, cfg)
		began := time.Now()
		if err := syscall.Kill(h.Process.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		awaitDone(t, p)
		t.Logf("seen after %s", time.Since(began).Round(time.Millisecond))
		var exit *provisioner.ExitError
		if !errors.As(p.Err(), &exit) || exit.Signal != "killed" || !exit.Ready || len(exit.LogTail) == 0 {
			t.Errorf("Err: %v", p.Err())
		}
		if s := p.Status(); s.State != provisioner.StateFailed || s.Exit != "signal: killed" {
			t.Errorf("status: %+v", s)
		}
		rt.nothingLeft(t, cfg)
	})
}

func TestRemovedFromOutside(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		p, _ := rt.ready(t, cfg)
		r, err := rt.launcher.runtime(bounded(t), rt.socket)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.remove(bounded(t), rt.containers(t, cfg)[0]); err != nil {
			t.Fatal(err)
		}
		awaitDone(t, p)
		var exit *provisioner.ExitError
		if !errors.As(p.Err(), &exit) {
			t.Errorf("Err: %v", p.Err())
		}
	})
}

func TestGraceAndKill(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := faking(t, rt.config(t), enginetest.Behavior{IgnoreTerm: true})
		cfg.Stop.Grace = settings.Duration(300 * time.Millisecond)
		p, _ := rt.ready(t, cfg)
		if err := p.Stop(bounded(t)); !errors.Is(err, provisioner.ErrKilled) {
			t.Errorf("Stop: %v", err)
		}
		if s := p.Status(); s.State != provisioner.StateStopped || s.Exit != "signal: killed" {
			t.Errorf("status: %+v", s)
		}
		rt.nothingLeft(t, cfg)
	})
}

// TestPausedContainer stops a container that somebody has paused.
func TestPausedContainer(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		cfg.Drain.Timeout = new(settings.Duration)
		p, _ := rt.ready(t, cfg)
		if _, err := rt.api(t).ContainerPause(bounded(t), rt.containers(t, cfg)[0], client.ContainerPauseOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := p.Stop(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if s := p.Status(); s.Exit != "code 0" {
			t.Errorf("status: %+v", s)
		}
	})
}

// TestStopWhileLoading: llama-server has no handler for SIGTERM while it loads, and the kernel spares the first process
// of a container from a signal without one.
func TestStopWhileLoading(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		if err := ggufgen.WriteFile(cfg.Model.ID, ggufgen.Params{Width: 1024, Layers: 24}); err != nil {
			t.Fatal(err)
		}
		cfg.Flags = append(cfg.Flags, "--load-mode", "none")
		p, _ := rt.launch(t, cfg)
		if err := p.Start(bounded(t)); err != nil {
			t.Fatal(err)
		}
		for !strings.Contains(readLog(t, p), "loading model") {
			time.Sleep(5 * time.Millisecond)
		}
		began := time.Now()
		if err := p.Stop(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
		t.Logf("stopped after %s, exit %q", time.Since(began).Round(time.Millisecond), p.Status().Exit)
	})
}

// TestDrain waits for a request in flight.
func TestDrain(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := faking(t, rt.config(t), enginetest.Behavior{BusyRequests: 500 * time.Millisecond})
		p, h := rt.ready(t, cfg)
		answered := make(chan error, 1)
		go func() {
			c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := c.Post(h.URL+"/completion", "application/json", strings.NewReader(`{"prompt":"Hi","n_predict":1}`))
			if err == nil {
				resp.Body.Close()
			}
			answered <- err
		}()
		for deadline := time.Now().Add(patience); ; {
			c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := c.Get(h.URL + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			var page strings.Builder
			_, err = copyTo(&page, resp)
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("no request in flight (%v)", err)
			}
			if strings.Contains(page.String(), "llamacpp:requests_processing 1") {
				break
			}
		}
		if err := p.Stop(bounded(t)); err != nil {
			t.Error(err)
		}
		if err := <-answered; err != nil {
			t.Errorf("the request in flight: %v", err)
		}
	})
}

// TestHostNetwork listens on the host itself, and there a stranger is told from the engine.
func TestHostNetwork(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		cfg.Provisioning.Container.Network = "host"
		p, _ := rt.ready(t, cfg)
		if err := p.Stop(bounded(t)); err != nil {
			t.Error(err)
		}
		if log := readLog(t, p); !strings.Contains(log, "listening on http://127.0.0.1:"+strconv.Itoa(cfg.Port)) {
			t.Errorf("log:\n%s", log)
		}
	})
}

func TestHostNetworkStranger(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := faking(t, rt.config(t), enginetest.Behavior{BindDelay: 2 * time.Second, PropsModel: "x"})
		cfg.Provisioning.Container.Network = "host"
		p, _ := rt.launch(t, cfg)
		if err := p.Start(bounded(t)); err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Addr: "127.0.0.1:" + strconv.Itoa(cfg.Port), Handler: http.NotFoundHandler()}
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
		go func() { _ = server.ListenAndServe() }()
		defer func() { _ = server.Close() }()
		_, err := p.WaitReady(bounded(t))
		var notReady *provisioner.NotReadyError
		if !errors.As(err, &notReady) || notReady.Cause != engine.CausePortInUse {
			t.Errorf("WaitReady: %v", err)
		}
	})
}

// TestAdoption hands a running container over, with its log.
func TestAdoption(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := faking(t, rt.config(t), enginetest.Behavior{LogFlood: 50000})
		p, h := rt.ready(t, cfg)
		before := p.Status()
		p.Release()
		if all, err := provisioner.Statuses(cfg.StateDir, provisioner.WithLauncher(rt.launcher)); err != nil || len(all) != 1 ||
			all[0].State != provisioner.StateReady || all[0].PID != before.PID {
			t.Errorf("statuses: %+v (%v)", all, err)
		}
		time.Sleep(300 * time.Millisecond) // lines that nobody reads meanwhile
		launches, found, err := provisioner.Recover(bounded(t), cfg.StateDir, provisioner.WithLauncher(rt.launcher))
		if err != nil || len(launches) != 1 || len(found) != 1 || found[0].Result != report.RecoveredAdopted {
			t.Fatalf("recovered %+v (%v)", found, err)
		}
		q := launches[0]
		if s := q.Status(); s.State != provisioner.StateReady || s.LaunchID != before.LaunchID || s.PID != before.PID {
			t.Errorf("adopted %+v, before %+v", s, before)
		}
		if code := statusAt(t, h.URL+"/health"); code != http.StatusOK {
			t.Errorf("health: %d", code)
		}
		if err := q.Stop(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
		checkFlood(t, readLog(t, q), true)
		rt.nothingLeft(t, cfg)
	})
}

// checkFlood makes sure that no line of a flood is missing, or, if exact, there twice.
func checkFlood(t *testing.T, log string, exact bool) {
	t.Helper()
	seen := map[int]int{}
	last := -1
	for line := range strings.Lines(log) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "flood" {
			continue
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatalf("line %q", line)
		}
		seen[n]++
		last = max(last, n)
	}
	for n := range last + 1 {
		if seen[n] == 0 || exact && seen[n] > 1 {
			t.Errorf("line %d of %d is there %d times", n, last, seen[n])
		}
	}
	if last < 5 {
		t.Errorf("only %d lines", last+1)
	}
}

// TestManagerKilled kills a manager, and lets the next one adopt its container.
func TestManagerKilled(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := faking(t, rt.config(t), enginetest.Behavior{LogFlood: 50000})
		manager := rt.manager(t, cfg)
		if err := errors.Join(manager.Process.Kill(), ignoreExit(manager.Wait())); err != nil {
			t.Fatal(err)
		}
		q := rt.attached(t, cfg)
		if s := q.Status(); s.State != provisioner.StateReady {
			t.Errorf("status: %+v", s)
		}
		if err := q.Stop(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
		checkFlood(t, readLog(t, q), false)
		rt.nothingLeft(t, cfg)
	})
}

// TestDiedUnwatched ends a container while no manager lives: the next one still learns how.
func TestDiedUnwatched(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		p, h := rt.ready(t, cfg)
		p.Release()
		if err := syscall.Kill(h.Process.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(patience); ; {
			all, err := provisioner.Statuses(cfg.StateDir, provisioner.WithLauncher(rt.launcher))
			if err == nil && len(all) == 1 && all[0].State == provisioner.StateFailed && all[0].Exit == "signal: killed" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("statuses before: %+v (%v)", all, err)
			}
		}
		_, err := provisioner.Attach(cfg.StateDir, cfg.ID(), provisioner.WithLauncher(rt.launcher))
		for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); { // the runtime has not seen it yet
			_, err = provisioner.Attach(cfg.StateDir, cfg.ID(), provisioner.WithLauncher(rt.launcher))
		}
		if !errors.Is(err, provisioner.ErrNotRunning) {
			t.Fatalf("Attach: %v", err)
		}
		all, err := provisioner.Statuses(cfg.StateDir)
		if err != nil || len(all) != 1 || all[0].State != provisioner.StateFailed || all[0].Exit != "signal: killed" {
			t.Errorf("statuses: %+v (%v)", all, err)
		}
		rt.nothingLeft(t, cfg)
	})
}

// TestCreatedNeverStarted has a manager die between the two.
func TestCreatedNeverStarted(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		ref := launch.Ref{
			StateDir: cfg.StateDir, Pool: "pool", Replica: "r0", LaunchID: "0123456789abcdef", Log: cfg.Dir + "/1.log", Runtime: rt.socket,
		}
		_, err := rt.api(t).ContainerCreate(bounded(t), client.ContainerCreateOptions{
			Config: &container.Config{Image: imageName + ":" + imageTag, Labels: recorded(ref)},
		})
		if err != nil {
			t.Fatal(err)
		}
		i, err := rt.launcher.Find(bounded(t), ref)
		if err != nil || !i.Exited() {
			t.Fatalf("exited %t (%v)", i.Exited(), err)
		}
		if members, err := i.Members(); err != nil || len(members) > 0 {
			t.Errorf("members %v (%v)", members, err)
		}
		if n, err := i.Kill(); n != 0 || err != nil {
			t.Errorf("%d were killed (%v)", n, err)
		}
		if exit := i.Exit(); exit.Known {
			t.Errorf("exit %+v", exit)
		}
		if err := i.Remove(); err != nil {
			t.Error(err)
		}
		i.Release()
		rt.nothingLeft(t, cfg)
	})
}

// TestOrphan has a container without a record.
func TestOrphan(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		p, _ := rt.ready(t, cfg)
		p.Release()
		orphan := rt.containers(t, cfg)
		if err := os.RemoveAll(filepath.Join(cfg.StateDir, "pool-r0")); err != nil {
			t.Fatal(err)
		}
		cfg.Port = enginetest.FreePort(t, 1)
		q, told := rt.launch(t, cfg)
		if err := q.Start(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if now := rt.containers(t, cfg); len(now) != 1 || slices.Equal(now, orphan) {
			t.Errorf("containers: %v, before %v", now, orphan)
		}
		if !strings.Contains(told.String(), "removed a container that an earlier manager had left: ") {
			t.Errorf("notes: %s", told)
		}
	})
}

// TestTwoManagersOfOnePath has two state directories behind one socket, which have the same path each where it is seen.
func TestTwoManagersOfOnePath(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		p, h := rt.ready(t, cfg)
		p.Release()
		theirs := rt.containers(t, cfg)
		elsewhere := cfg.StateDir + ".other"
		if err := os.Rename(cfg.StateDir, elsewhere); err != nil {
			t.Fatal(err)
		}
		other := cfg
		other.Port = enginetest.FreePort(t, 1)
		q, told := rt.launch(t, other)
		if err := q.Start(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(told.String(), fmt.Sprintf("left a container alone that has the path of this state directory and not its id: %.12s", theirs[0])) {
			t.Errorf("notes: %s", told)
		}
		if err := q.Stop(bounded(t)); err != nil {
			t.Error(err)
		}
		if now := rt.containers(t, cfg); !slices.Equal(now, theirs) {
			t.Errorf("containers: %v, before %v", now, theirs)
		}
		if code := statusAt(t, h.URL+"/health"); code != http.StatusOK {
			t.Errorf("health: %d", code)
		}
		if err := errors.Join(os.RemoveAll(cfg.StateDir), os.Rename(elsewhere, cfg.StateDir)); err != nil {
			t.Fatal(err)
		}
		if err := rt.attached(t, cfg).Stop(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
}

// TestContainerOfAnEarlierVersion has a container without the id of its state directory, which the record tells of.
func TestContainerOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		cfg.Provisioning.Container.Network = "bridge" // as it was
		p, _ := rt.ready(t, cfg)
		p.Release()
		if err := os.Remove(filepath.Join(cfg.StateDir, "id")); err != nil {
			t.Fatal(err)
		}
		if err := rt.attached(t, cfg).Stop(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
		rt.nothingLeft(t, cfg)
	})
}

// TestSplitModel loads a model in parts from a folder with a name that no pattern survives, beside files that look like
// parts.
func TestSplitModel(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		name := `models [v1] *?,"{a}" $HOME \ ü`
		if rt.name == "docker" { // a colon beside a comma is too much for Podman, which a test of its own has
			name += ":ro"
		}
		dir := filepath.Join(cfg.Dir, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		parts, err := ggufgen.WriteSplit(filepath.Join(dir, "chat"), ggufgen.Params{}, 2)
		if err != nil {
			t.Fatal(err)
		}
		stranger := filepath.Join(dir, "chat-evil9-of-00002.gguf")
		if err := os.WriteFile(stranger, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.Model.ID = parts[0]
		p, _ := rt.ready(t, cfg)
		found, err := rt.api(t).ContainerInspect(bounded(t), rt.containers(t, cfg)[0], client.ContainerInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var mounted []string
		for _, m := range found.Container.Mounts {
			mounted = append(mounted, m.Destination)
		}
		if slices.Sort(mounted); !slices.Equal(mounted, parts) {
			t.Errorf("mounted %q, want %q", mounted, parts)
		}
		if err := p.Stop(bounded(t)); err != nil {
			t.Error(err)
		}
	})
}

// TestAlreadyRunning starts a replica twice.
func TestAlreadyRunning(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		_, h := rt.ready(t, cfg)
		q, err := provisioner.New(cfg, provisioner.WithLauncher(rt.launcher), provisioner.WithCacheDir(t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Start(bounded(t)); !errors.Is(err, provisioner.ErrBusy) {
			t.Errorf("Start: %v", err)
		}
		if code := statusAt(t, h.URL+"/health"); code != http.StatusOK {
			t.Errorf("health of the first: %d", code)
		}
		if _, err := provisioner.ReadHandoff(cfg.StateDir + "/engines/pool-r0.json"); err != nil {
			t.Errorf("handoff of the first: %v", err)
		}
	})
}

// TestStoppedByAnotherProgram leaves the log whole: only one of the two copies it.
func TestStoppedByAnotherProgram(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := faking(t, rt.config(t), enginetest.Behavior{LogFlood: 50000})
		p, _ := rt.ready(t, cfg)
		if err := rt.attached(t, cfg).Stop(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
		awaitDone(t, p)
		if s := p.Status(); s.State != provisioner.StateStopped || p.Err() != nil {
			t.Errorf("status %+v, error %v", s, p.Err())
		}
		checkFlood(t, readLog(t, p), true)
	})
}

func TestSupervised(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		cfg.Restart.InitialDelay = settings.Duration(time.Millisecond)
		s, err := fleet.Open(bounded(t), fleet.Options{
			Launch: []provisioner.Option{provisioner.WithLauncher(rt.launcher), provisioner.WithCacheDir(t.TempDir())},
		}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Shutdown(bounded(t)); err != nil {
				t.Errorf("Stop: %v", err)
			}
			rt.nothingLeft(t, cfg)
		}()
		if err := s.WaitReady(bounded(t)); err != nil {
			t.Fatal(err)
		}
		first := s.Status()[0]
		if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			now := s.Status()[0]
			if now.State == provisioner.StateReady && now.LaunchID != first.LaunchID {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("not restarted: %+v", now)
			}
		}
	})
}

// TestGPURefused asks machines without GPUs, or without what gives them to containers, for one.
func TestGPURefused(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		for _, driver := range []string{"", "nvidia", "cdi"} {
			cfg := rt.config(t)
			image := imageName + ":" + imageTag
			to := launch.Target{Host: "127.0.0.1", Port: cfg.Port, Container: launch.Container{
				Image: image, RuntimeSocket: cfg.Provisioning.Container.RuntimeSocket, GPUDriver: driver, Network: "bridge",
			}}
			i, err := rt.launcher.Reserve(to, launch.Ref{
				StateDir: cfg.StateDir, StateID: cfg.StateDir, Pool: "pool", Replica: "r0", LaunchID: "0123456789abcdef", Log: cfg.Dir + "/1.log",
			})
			if err != nil {
				t.Fatal(err)
			}
			err = i.Start(bounded(t), launch.Launch{
				Target: to, Note: func(string) {},
				Host: engine.Host{Binary: engine.Binary{Path: image}, GPUs: []engine.GPU{{Vendor: engine.VendorNVIDIA, UUID: "GPU-1"}}},
			})
			if refused, ok := errors.AsType[*launch.Error](err); !ok || refused.Cause != engine.CauseDriver || refused.Advice == "" {
				t.Errorf("driver %q: %v", driver, err)
			}
			rt.nothingLeft(t, cfg)
		}
	})
}

func TestMissingImage(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		for pull, want := range map[string]string{
			"never":   `the image "engine-provisioner-test:none" is not on this node, and "provisioning.container.pull" is "never"`,
			"missing": `cannot pull the image "localhost:1/engine-provisioner-test:none": `,
			"always":  `cannot pull the image "localhost:1/engine-provisioner-test:latest": `,
		} {
			cfg := rt.config(t)
			c := cfg.Provisioning.Container
			c.Tag, c.Pull = "none", pull
			if pull != "never" {
				c.Image = "localhost:1/" + imageName // nobody listens there
			}
			if pull == "always" { // although it is there
				c.Tag = imageTag
				if _, err := rt.api(t).ImageTag(bounded(t), client.ImageTagOptions{
					Source: imageName + ":" + imageTag, Target: c.Image + ":" + c.Tag,
				}); err != nil {
					t.Fatal(err)
				}
			}
			p, _ := rt.launch(t, cfg)
			err := p.Start(bounded(t))
			var start *provisioner.StartError
			if !errors.As(err, &start) || !strings.Contains(err.Error(), want) {
				t.Errorf("Start: %v", err)
			}
		}
	})
}

func TestMissingCommand(t *testing.T) {
	t.Parallel()
	eachRuntime(t, func(t *testing.T, rt testRuntime) {
		cfg := rt.config(t)
		cfg.Provisioning.Container.Entrypoint = []string{"/no/such/engine"}
		p, _ := rt.launch(t, cfg)
		err := p.Start(bounded(t))
		var start *provisioner.StartError
		if !errors.As(err, &start) || start.Cause != engine.CauseLibMissing {
			t.Errorf("Start: %v", err)
		}
		rt.nothingLeft(t, cfg)
	})
}

// managerEnv makes this test binary a manager that starts one replica.
const managerEnv = "ENGINE_PROVISIONER_TEST_MANAGER"

type managed struct {
	Config provisioner.ProvisionConfig
	Names  [4]string // what the JSON of a configuration leaves out
}

// manager is another process that has brought the replica up.
func (rt testRuntime) manager(t *testing.T, cfg provisioner.ProvisionConfig) *exec.Cmd {
	t.Helper()
	what, err := json.Marshal(managed{cfg, [4]string{cfg.PoolID, cfg.ReplicaID, cfg.StateDir, cfg.Dir}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Stderr = os.Stderr // an end that nobody expects has its reason there
	cmd.Env = append(os.Environ(), managerEnv+"="+string(what))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 5)
	if _, err := out.Read(word); err != nil || string(word) != "ready" {
		_ = cmd.Process.Kill()
		t.Fatalf("the manager says %q (%v)", word, errors.Join(err, cmd.Wait()))
	}
	return cmd
}

// manage is what the manager does.
func manage(what string) error {
	var m managed
	if err := json.Unmarshal([]byte(what), &m); err != nil {
		return err
	}
	cfg := m.Config
	cfg.PoolID, cfg.ReplicaID, cfg.StateDir, cfg.Dir = m.Names[0], m.Names[1], m.Names[2], m.Names[3]
	p, err := provisioner.New(cfg, provisioner.WithLauncher(New()))
	if err != nil {
		return err
	}
	if err := p.Start(context.Background()); err != nil {
		return err
	}
	if _, err := p.WaitReady(context.Background()); err != nil {
		return err
	}
	fmt.Fprint(os.Stdout, "ready")
	<-p.Done()
	return p.Err()
}

func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}
