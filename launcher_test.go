package provisioner

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/tool"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/settings"
)

// stubLauncher performs launches of mode "container" as processes, which is enough to see what is asked of a Launcher.
type stubLauncher struct {
	path    string // of the executable
	missing bool   // until it is fetched
	fetched int
	asked   [][]string
}

func (*stubLauncher) Mode() string { return "container" }

func (l *stubLauncher) Locate(context.Context, launch.Target, engine.Program) (engine.Binary, string, error) {
	if l.missing {
		return engine.Binary{}, "pull the image", nil
	}
	return engine.Binary{Path: l.path, Digest: "00"}, "", nil
}

func (l *stubLauncher) Fetch(_ context.Context, _ launch.Target, _ engine.Program, tell func(launch.Progress)) (engine.Binary, error) {
	tell(launch.Progress{What: "image", Done: 1, Total: 2})
	l.fetched++
	l.missing = false
	return engine.Binary{Path: l.path, Digest: "00"}, nil
}

func (l *stubLauncher) Ask(ctx context.Context, _ launch.Target, _ engine.Program, b engine.Binary, args []string) (string, error) {
	l.asked = append(l.asked, args)
	return tool.Ask(ctx, b.Path, args, nil, nil)
}

// Reserve and Find know no more of a launch than a launcher may.
func (*stubLauncher) Reserve(_ launch.Target, ref launch.Ref) (launch.Instance, error) {
	return onHost().Reserve(launch.Target{}, false, perform.Ref{Ref: ref})
}

func (*stubLauncher) Find(ctx context.Context, ref launch.Ref) (launch.Instance, error) {
	return onHost().Find(ctx, perform.Ref{Ref: ref})
}

// onHost performs launches by processes of this host.
func onHost() perform.Performer {
	by, err := perform.Launchers(nil).Performer("binary", newOptions(nil).cgroup)
	if err != nil {
		panic(err)
	}
	return by
}

// containedConfig is a replica for a stubLauncher.
func containedConfig(t testing.TB, b enginetest.Behavior) (ProvisionConfig, *stubLauncher) {
	t.Helper()
	cfg := fakeConfig(t, b)
	l := &stubLauncher{path: cfg.Provisioning.Binary.Path}
	cfg.Provisioning = settings.Provisioning{Mode: "container"}
	return cfg, l
}

func TestLauncher(t *testing.T) {
	t.Parallel()
	cfg, l := containedConfig(t, enginetest.Behavior{})
	l.missing = true
	plan, err := planOf(bounded(t), cfg, WithLauncher(l), WithCacheDir(t.TempDir()))
	if err != nil || !slices.Equal(plan.Pending, []string{"pull the image"}) || l.fetched > 0 {
		t.Errorf("plan %+v (%v)", plan, err)
	}
	p, _ := ready(t, cfg, WithLauncher(l))
	if l.fetched != 1 || len(l.asked) != 2 {
		t.Errorf("fetched %d times, asked %v", l.fetched, l.asked)
	}
	if h := p.handoff; h.ProvisioningMode != "container" || !strings.Contains(strings.Join(h.Args, " "), "--host 0.0.0.0") ||
		h.URL != probe.URL("127.0.0.1", cfg.Port) {
		t.Errorf("handoff %+v", h)
	}
	report := enginetest.Inspect(t, p.handoff.URL)
	if slices.ContainsFunc(report.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		t.Errorf("the environment of this host is in it: %v", report.Env)
	}
	// Whoever knows no such launcher can tell what the record says, and no more.
	all, err := Statuses(cfg.StateDir)
	if err != nil || len(all) != 1 || all[0].State != StateReady {
		t.Errorf("statuses %+v (%v)", all, err)
	}
	if _, err := Attach(cfg.StateDir, poolR0); !errors.Is(err, perform.ErrNoLauncher) {
		t.Errorf("Attach: %v", err)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

func TestNoLauncher(t *testing.T) {
	t.Parallel()
	cfg, _ := containedConfig(t, enginetest.Behavior{})
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, p.Start(bounded(t)), `this program was built without mode "container"; give it WithLauncher(docker.New())`)
	_, err = p.Prepare(bounded(t))
	wantText(t, err, `without mode "container"`)
}

func TestPullAlways(t *testing.T) {
	t.Parallel()
	cfg, l := containedConfig(t, enginetest.Behavior{})
	cfg.Provisioning.Container = &settings.Container{Pull: "always"}
	started(t, cfg, WithLauncher(l))
	if l.fetched != 1 {
		t.Errorf("fetched %d times", l.fetched)
	}
}

func TestImageReference(t *testing.T) {
	t.Parallel()
	own := engine.Image{Name: "own/image", Tag: "v1"}
	for _, c := range []struct {
		config settings.Container
		want   string
	}{
		{settings.Container{}, "own/image:v1"},
		{settings.Container{Tag: "v2"}, "own/image:v2"},
		{settings.Container{Digest: "sha256:00"}, "own/image@sha256:00"},
		{settings.Container{Image: "other", Tag: "v3"}, "other:v3"},
		{settings.Container{Image: "other"}, "other"},
	} {
		if got := c.config.Reference(own); got != c.want {
			t.Errorf("%+v: %q, want %q", c.config, got, c.want)
		}
	}
	if got := (settings.Container{}).Reference(engine.Image{}); got != "" {
		t.Errorf("without an image: %q", got)
	}
}
