package provisioner

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

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
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(s.Collector()); err != nil {
		t.Fatal(err)
	}
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
	if err := s.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	want(1, "state", "state", "stopped")
	want(0, "last_exit_code")
	want(3, "ready_duration_seconds")
}

func TestCollectorOfABreaker(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour, DieLoading: &enginetest.Death{Code: 1}}))
	s, _ := supervised(t, []ProvisionConfig{cfg})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.Collector())
	eventually(t, "the breaker is open", func() bool { v, _ := sample(t, registry, "breaker_open"); return v == 1 })
	eventually(t, "the last restart is counted", func() bool { v, _ := sample(t, registry, "restarts_total"); return v == 3 })
	if v, _ := sample(t, registry, "state", "state", "failed"); v != 1 {
		t.Errorf("state %+v", s.Status()[0])
	}
}

func TestCollectorOfAnAdoption(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	abandoned(t, cfg)
	s, _ := superviseReady(t, cfg)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.Collector())
	for result, want := range map[string]float64{"adopted": 1, "stopped": 0, "gone": 0, "unknown": 0} {
		if got, found := sample(t, registry, "adoptions_total", "result", result); !found || got != want {
			t.Errorf("%s: %v, want %v", result, got, want)
		}
	}
}

// Each metric has a row in the documentation, and each row a metric.
func TestDocsNameEveryMetric(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/operations.md")
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
	newCollector(nil).Describe(descs)
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
