package metrics

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/settings"
)

const patience = time.Minute

// TestMain is where the test binary becomes the fake engine; it fails when an engine or a goroutine outlives the tests.
func TestMain(m *testing.M) {
	_ = os.Setenv("HF_HUB_OFFLINE", "1")
	goleak.VerifyTestMain(suite{m})
}

type suite struct{ *testing.M }

func (s suite) Run() int { return enginetest.Run(s.M) }

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// config is of a replica that is started again almost at once.
func config(t *testing.T, b enginetest.Behavior) provisioner.ProvisionConfig {
	t.Helper()
	dir := t.TempDir()
	model := filepath.Join(dir, "model.gguf")
	if err := os.WriteFile(model, []byte(enginetest.GGUF), 0o600); err != nil {
		t.Fatal(err)
	}
	return provisioner.ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "llamacpp", Port: enginetest.FreePort(t, 1), Model: settings.Model{ID: model}, GPU: engine.GPUNone,
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: enginetest.Install(t, b)}},
		Restart: settings.Restart{
			InitialDelay: settings.Duration(10 * time.Millisecond), MaxDelay: settings.Duration(50 * time.Millisecond),
			StartBurst: 3, Cooldown: settings.Duration(time.Hour), CooldownMax: settings.Duration(time.Hour),
		},
	}
}

// supervised watches the replicas of cfgs, and stops them at the end.
func supervised(t *testing.T, cfgs ...provisioner.ProvisionConfig) (*fleet.Fleet, *Collector, *prometheus.Registry) {
	t.Helper()
	c := New()
	s, err := fleet.Open(bounded(t), fleet.Options{
		OnEvent: c.Observe, Launch: []provisioner.Option{provisioner.WithCacheDir(t.TempDir())},
	}, cfgs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil && !errors.Is(err, provisioner.ErrReleased) {
			t.Error(err)
		}
	})
	c.Watch(s)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	return s, c, registry
}

func ready(t *testing.T, s *fleet.Fleet) {
	t.Helper()
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

// untilReady waits until the launch after the one of that id is ready.
func untilReady(t *testing.T, s *fleet.Fleet, before string) provisioner.Status {
	t.Helper()
	var now provisioner.Status
	eventually(t, "the next launch is ready", func() bool {
		now = s.Status()[0]
		return now.State == provisioner.StateReady && now.LaunchID != before
	})
	return now
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// sample is the value of one series; for a histogram, of its count.
func sample(t *testing.T, from prometheus.Gatherer, name string, labels ...string) (value float64, found bool) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "engine_provisioner_"+name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			has := map[string]string{}
			for _, l := range m.GetLabel() {
				has[l.GetName()] = l.GetValue()
			}
			for i := 0; i < len(labels); i += 2 {
				if has[labels[i]] != labels[i+1] {
					continue series
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()), true
		}
	}
	return 0, false
}

func TestCollector(t *testing.T) {
	t.Parallel()
	s, _, registry := supervised(t, config(t, enginetest.Behavior{}))
	ready(t, s)
	want := func(value float64, name string, labels ...string) {
		t.Helper()
		if got, found := sample(t, registry, name, labels...); !found || got != value {
			t.Errorf("%s %q: %v (found: %t), want %v", name, labels, got, found, value)
		}
	}
	want(1, "state", "state", "ready", "pool", "pool", "replica", "r0")
	want(0, "state", "state", "failed")
	want(1, "load_duration_seconds")
	want(0, "breaker_open", "replica", "r0")
	want(0, "adoptions_total", "result", "adopted")
	eventually(t, "a disk that is in time for a scrape", func() bool {
		got, found := sample(t, registry, "log_bytes")
		if found && got <= 0 {
			t.Fatalf("log_bytes %v", got)
		}
		return found
	})
	for _, name := range []string{"restarts_total", "ready_duration_seconds", "last_exit_code"} {
		if _, found := sample(t, registry, name); found {
			t.Errorf("%s before anything ended", name)
		}
	}

	begin := time.Now()
	first := s.Status()[0]
	enginetest.Kill(t, first.URL, enginetest.Death{Code: 7})
	second := untilReady(t, s, first.LaunchID)
	want(1, "restarts_total", "cause", "unknown")
	want(2, "load_duration_seconds")
	want(1, "ready_duration_seconds")
	want(7, "last_exit_code")
	if at, _ := sample(t, registry, "last_exit_timestamp_seconds"); at < float64(begin.Unix()) || at > float64(time.Now().Unix()+1) {
		t.Errorf("last exit at %v", at)
	}

	enginetest.Kill(t, second.URL, enginetest.Death{Signal: 9})
	untilReady(t, s, second.LaunchID)
	// By hand, which is told from lack of memory unless some other process has just died of that.
	unknown, _ := sample(t, registry, "restarts_total", "cause", "unknown")
	memory, _ := sample(t, registry, "restarts_total", "cause", "oom_host")
	if unknown+memory != 2 {
		t.Errorf("%v restarts of an unknown cause, %v for lack of memory; want 2 in all", unknown, memory)
	}
	want(-1, "last_exit_code")

	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v (%v)", problems, err)
	}
	if err := s.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	want(1, "state", "state", "stopped")
	want(0, "last_exit_code")
	want(3, "ready_duration_seconds")
}

func TestCollectorOfABreaker(t *testing.T) {
	t.Parallel()
	s, _, registry := supervised(t, config(t, enginetest.Behavior{LoadTime: time.Hour, DieLoading: &enginetest.Death{Code: 1}}))
	eventually(t, "the breaker is open", func() bool { v, _ := sample(t, registry, "breaker_open"); return v == 1 })
	eventually(t, "the last restart is counted", func() bool { v, _ := sample(t, registry, "restarts_total"); return v == 3 })
	if v, _ := sample(t, registry, "state", "state", "failed"); v != 1 {
		t.Errorf("state %+v", s.Status()[0])
	}
}

func TestCollectorOfAnAdoption(t *testing.T) {
	t.Parallel()
	cfg := config(t, enginetest.Behavior{})
	before, _, _ := supervised(t, cfg)
	ready(t, before)
	if err := before.Release(); err != nil {
		t.Fatal(err)
	}
	s, _, registry := supervised(t, cfg)
	ready(t, s)
	for result, want := range map[string]float64{"adopted": 1, "stopped": 0, "gone": 0, "unknown": 0} {
		if got, found := sample(t, registry, "adoptions_total", "result", result); !found || got != want {
			t.Errorf("%s: %v, want %v", result, got, want)
		}
	}
}

// Each metric has a row in the documentation, and each row a metric.
func TestDocsNameEveryMetric(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(doc), "\n## Metrics\n")
	text, _, _ = strings.Cut(text, "\n## ")
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(engine_provisioner_\\w+)` \\|").FindAllStringSubmatch(text, -1) {
		named[m[1]] = true
	}
	descs := make(chan *prometheus.Desc, 64)
	New().Describe(descs)
	close(descs)
	if len(descs) < 9 {
		t.Fatalf("%d metrics", len(descs))
	}
	for d := range descs {
		name := regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1]
		if !named[name] {
			t.Errorf("docs/operations.md, Metrics: %q is missing", name)
		}
		delete(named, name)
	}
	for name := range named {
		t.Errorf("docs/operations.md, Metrics: %q is not in the code", name)
	}
}

// What Apply removes has no series any more, and the others keep theirs.
func TestCollectorForgets(t *testing.T) {
	t.Parallel()
	stays, goes := config(t, enginetest.Behavior{}), config(t, enginetest.Behavior{})
	goes.ReplicaID, goes.StateDir, goes.Dir = "r1", stays.StateDir, stays.Dir
	s, _, registry := supervised(t, stays, goes)
	ready(t, s)
	if _, found := sample(t, registry, "load_duration_seconds", "replica", "r1"); !found {
		t.Fatal("no load of r1")
	}
	if _, err := s.Apply(bounded(t), []provisioner.ProvisionConfig{stays}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state", "load_duration_seconds", "ready_duration_seconds", "last_exit_timestamp_seconds"} {
		if got, found := sample(t, registry, name, "replica", "r1"); found {
			t.Errorf("%s of a replica that is gone: %v", name, got)
		}
	}
	if got, found := sample(t, registry, "load_duration_seconds", "replica", "r0"); !found || got != 1 {
		t.Errorf("loads of the other: %v (found: %t)", got, found)
	}
}

// A disk that hangs delays a scrape by a moment, and hides nothing but the sizes of the logs.
func TestScrapeDoesNotWaitForTheDisk(t *testing.T) {
	t.Parallel()
	s, c, registry := supervised(t, config(t, enginetest.Behavior{}))
	ready(t, s)
	answer := make(chan struct{})
	c.logs.sizeOf = func(string) int64 { <-answer; return 7 }
	for range 2 {
		if _, found := sample(t, registry, "state", "state", "ready"); !found {
			t.Error("no state")
		}
		if _, found := sample(t, registry, "log_bytes"); found {
			t.Error("log_bytes of a disk that has never answered")
		}
	}
	close(answer)
	eventually(t, "sizes of a disk that answers", func() bool { size, _ := sample(t, registry, "log_bytes"); return size == 7 })
}

// A GPU that a replica was given has a series for as long as its engine lives.
func TestCollectorNamesGPUs(t *testing.T) {
	t.Parallel()
	cfg := config(t, enginetest.Behavior{
		Devices: "Available devices:\n  Vulkan0: llvmpipe (LLVM 21.1.8, 256 bits) (24105 MiB, 19567 MiB free)\n",
		LogText: "load_tensors:      Vulkan0 model buffer size =    92.10 MiB\n",
	})
	cfg.GPU, cfg.Devices = engine.GPURequired, settings.Devices{"Vulkan0"}
	s, _, registry := supervised(t, cfg)
	ready(t, s)
	if value, found := sample(t, registry, "gpu", "gpu", "Vulkan0", "pool", "pool", "replica", "r0"); !found || value != 1 {
		t.Errorf("%v, %v", value, found)
	}
	if err := s.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, found := sample(t, registry, "gpu"); found {
		t.Error("a replica that has stopped has a GPU")
	}
}
