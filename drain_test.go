package provisioner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/test/client"
	"github.com/llama-orch/engine-provisioner/settings"
)

// requestTime is how long a request takes that a drain waits for.
const requestTime = client.RequestTime

// busyConfig is a replica whose requests take d. Its grace is short only where a request is never over.
func busyConfig(t testing.TB, d time.Duration) ProvisionConfig {
	cfg := fakeConfig(t, enginetest.Behavior{BusyRequests: d})
	cfg.Ready.Answer = "off"
	cfg.Stop.Grace = settings.Duration(20 * time.Second)
	if d == time.Hour {
		cfg.Stop.Grace = settings.Duration(200 * time.Millisecond)
	}
	cfg.Drain.Timeout = new(settings.Duration(20 * time.Second))
	return cfg
}

// inFlight sends n completion requests and returns when the engine counts them.
func inFlight(t testing.TB, cfg ProvisionConfig, n int, body string) <-chan client.Result {
	t.Helper()
	return client.InFlight(t, cfg.Port, n, body)
}

// stopping calls Stop in the background.
func stopping(ctx context.Context, p *EngineProvisioner) <-chan error {
	done := make(chan error, 1)
	go func() { done <- p.Stop(ctx) }()
	return done
}

func awaitDraining(t testing.TB, p *EngineProvisioner) {
	t.Helper()
	eventually(t, "it drains", func() bool { return p.Status().State == StateDraining })
}

// stoppingMessage is what was told with the state stopping.
func (j *journal) stoppingMessage() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		if e.Kind == EventState && e.State == StateStopping {
			return e.Message
		}
	}
	return ""
}

func wantNote(t testing.TB, j *journal, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(j.notes(), part) {
			t.Errorf("notes lack %q:\n%s", part, j.notes())
		}
	}
}

// No client is cut before the deadline, whether it is served or waits for its turn.
func TestDrainWaitsForRequests(t *testing.T) {
	t.Parallel()
	cfg := busyConfig(t, requestTime)
	p, j := ready(t, cfg)
	results := inFlight(t, cfg, 2, `{"prompt":"x"}`)
	stopped := stopping(bounded(t), p)
	awaitDraining(t, p)
	if _, err := os.Lstat(p.run.files.Handoff()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the handoff is there while it drains (%v)", err)
	}
	if all, err := Statuses(cfg.StateDir); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	for range 2 {
		if r := <-results; r.Err != nil || r.Status != 200 || !strings.Contains(r.Body, `"stop":true`) {
			t.Errorf("a client got %+v", r)
		}
	}
	if err := <-stopped; err != nil {
		t.Errorf("Stop: %v", err)
	}
	nothingLeft(t, p)
	wantStates(t, j, StatePreparing, StateStarting, StateReady, StateDraining, StateStopping, StateStopped)
	wantNote(t, j, "2 requests in flight; waiting for up to 20s")
	if m := j.stoppingMessage(); !strings.HasPrefix(m, "drained in ") {
		t.Errorf("stopping: %q", m)
	}
}

// A saturated engine gives no answer, and is waited for all the same.
func TestDrainWaitsForASilentEngine(t *testing.T) {
	t.Parallel()
	cfg := busyConfig(t, requestTime)
	cfg.Drain.Timeout = new(settings.Duration(patience))
	cfg.Ready.RequestTimeout = settings.Duration(patience)
	b := enginetest.Behavior{BusyRequests: requestTime, Threads: 1}
	cfg.Provisioning.Binary.Path = fakeConfig(t, b).Provisioning.Binary.Path
	p, j := ready(t, cfg)
	p.run.rec.Launch.Ready.RequestTimeout = settings.Duration(20 * time.Millisecond)
	const clients = 3
	results := make(chan client.Result, clients)
	for range clients {
		go func() { results <- client.One(p.handoff.URL+"/completion", `{"prompt":"x"}`) }()
	}
	eventually(t, "no page is answered", func() bool {
		_, err := probe.New("127.0.0.1", cfg.Port, secret.Text{}, 500*time.Millisecond).Get(t.Context(), "/health", probe.MaxHealthBody)
		return errors.Is(err, probe.ErrNoAnswer)
	})
	if err := p.Stop(bounded(t)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	for range clients {
		if r := <-results; r.Err != nil || r.Status != 200 || !strings.Contains(r.Body, `"stop":true`) {
			t.Errorf("a client got %+v", r)
		}
	}
	nothingLeft(t, p)
	wantNote(t, j, "/metrics is unanswered, as by an engine that is full of requests; waiting for up to ")
	if strings.Contains(j.notes(), "not waited for") {
		t.Errorf("notes: %s", j.notes())
	}
	if m := j.stoppingMessage(); !strings.HasPrefix(m, "drained in ") {
		t.Errorf("stopping: %q", m)
	}
}

func TestDrainDeadline(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	cfg := busyConfig(t, time.Hour)
	cfg.Drain.Timeout = new(settings.Duration(limit))
	p, j := ready(t, cfg)
	results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
	began := time.Now()
	if err := p.Stop(bounded(t)); !errors.Is(err, ErrKilled) {
		t.Errorf("Stop: %v", err)
	}
	if took := time.Since(began); took < limit {
		t.Errorf("stopped after %s", took)
	}
	if r := <-results; r.Err == nil {
		t.Errorf("a client got %+v", r)
	}
	nothingLeft(t, p)
	wantNote(t, j, "1 request in flight; waiting", "the drain's 2s are over with 1 request in flight")
}

// A kill skips the rest of the drain. The end of a context does not: the stop goes on without its caller.
func TestDrainIsCutShort(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"who waits", "who waits no longer"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			cfg := busyConfig(t, time.Hour)
			cfg.Drain.Timeout = new(settings.Duration(time.Hour))
			cfg.Stop.Grace = settings.Duration(time.Hour)
			p, j := ready(t, cfg)
			results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
			first, hurry := context.WithCancel(context.Background())
			defer hurry()
			stopped := stopping(first, p)
			eventually(t, "the request is seen", func() bool { return strings.Contains(j.notes(), "in flight; waiting") })
			want := ErrKilled
			if who == "who waits no longer" {
				want = context.Canceled
				hurry()
				if err := p.Stop(first); !errors.Is(err, want) {
					t.Errorf("the later Stop: %v", err)
				}
				if err := <-stopped; !errors.Is(err, want) {
					t.Errorf("Stop: %v", err)
				}
				if now := p.Status(); now.State != StateDraining || enginetest.Inspect(t, now.URL).Signals["SIGTERM"] > 0 {
					t.Errorf("the end of a context has ended the drain: %+v", now)
				}
			}
			if err := p.Kill(bounded(t)); !errors.Is(err, ErrKilled) {
				t.Errorf("Kill: %v", err)
			}
			if who == "who waits" {
				if err := <-stopped; !errors.Is(err, want) {
					t.Errorf("Stop: %v", err)
				}
			}
			<-results
			nothingLeft(t, p)
			wantNote(t, j, "the drain was cut short with 1 request in flight")
		})
	}
}

func TestEngineDiesWhileDraining(t *testing.T) {
	t.Parallel()
	cfg := busyConfig(t, time.Hour)
	cfg.Drain.Timeout = new(settings.Duration(time.Hour))
	p, j := ready(t, cfg)
	results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
	stopped := stopping(context.Background(), p)
	awaitDraining(t, p)
	if err := syscall.Kill(p.run.host().Leader.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Stop: %v", err)
	}
	<-results
	nothingLeft(t, p)
	wantStates(t, j, StatePreparing, StateStarting, StateReady, StateDraining, StateStopping, StateStopped)
	if m := j.stoppingMessage(); m != endedDraining {
		t.Errorf("stopping: %q", m)
	}
	if err := p.Err(); err != nil {
		t.Errorf("Err: %v", err)
	}
}

// What cannot be counted is not waited for, and said.
func TestDrainWithoutGauges(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*ProvisionConfig)
		broken func(*EngineProvisioner)
		note   string
	}{
		"off": {
			change: func(cfg *ProvisionConfig) {
				cfg.Env = map[string]settings.EnvValue{"LLAMA_ARG_ENDPOINT_METRICS": {Value: "0"}}
			},
			note: "not waited for: the engine's metrics are off",
		},
		"it drains itself": {
			broken: func(p *EngineProvisioner) {
				p.run.rec.Launch.Spec.Gauges, p.run.rec.Launch.Spec.DrainsItself = nil, true
			},
		},
		"no such page": {
			broken: func(p *EngineProvisioner) {
				p.run.rec.Launch.Spec.Gauges = &engine.Gauges{Path: "/none", Names: []string{"x"}}
			},
			note: "not waited for: /none does not exist (404)",
		},
		"no such series": {
			broken: func(p *EngineProvisioner) {
				p.run.rec.Launch.Spec.Gauges = &engine.Gauges{Path: "/metrics", Names: []string{"none"}}
			},
			note: `not waited for: /metrics lacks the series "none"`,
		},
		"not metrics": {
			broken: func(p *EngineProvisioner) {
				p.run.rec.Launch.Spec.Gauges = &engine.Gauges{Path: "/props", Names: []string{"x"}}
			},
			note: "not waited for: /props is not valid Prometheus text",
		},
		"refused": {
			broken: func(p *EngineProvisioner) { p.run.rec.Port = enginetest.FreePort(t, 1) },
			note:   "not waited for: cannot read /metrics: connect: connection refused",
		},
		"suspended": {
			broken: func(p *EngineProvisioner) {
				p.run.rec.Launch.Ready.RequestTimeout = settings.Duration(50 * time.Millisecond)
				_ = p.run.host().Leader.Signal(syscall.SIGSTOP)
			},
			note: "not waited for: cannot read /metrics: no answer in time; the engine is suspended (SIGSTOP)",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			cfg.Drain.Timeout = new(settings.Duration(time.Hour))
			if test.change != nil {
				test.change(&cfg)
			}
			p, j := ready(t, cfg)
			if test.broken != nil {
				test.broken(p)
			}
			if err := p.Stop(bounded(t)); err != nil {
				t.Errorf("Stop: %v", err)
			}
			nothingLeft(t, p)
			wantNote(t, j, test.note)
			if notes := j.notes(); test.note == "" && strings.Contains(notes, "waited for") {
				t.Errorf("notes: %q", notes)
			}
		})
	}
}

// Only what was ready is drained.
func TestNoDrain(t *testing.T) {
	t.Parallel()
	hook := func(t *testing.T) Option {
		return WithDrainHook("unwanted", func(context.Context, Handoff) error { t.Error("the hook ran"); return nil })
	}
	t.Run("loading", func(t *testing.T) {
		t.Parallel()
		p, j := started(t, fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour}), hook(t))
		if err := p.Stop(bounded(t)); err != nil {
			t.Error(err)
		}
		wantStates(t, j, StatePreparing, StateStarting, StateStopping, StateStopped)
	})
	t.Run("given up", func(t *testing.T) {
		t.Parallel()
		p, j := started(t, fakeConfig(t, enginetest.Behavior{AnswerStatus: 500}), hook(t))
		if _, err := p.WaitReady(bounded(t)); err == nil {
			t.Error("ready")
		}
		wantStates(t, j, StatePreparing, StateStarting, StateStopping, StateFailed)
	})
	t.Run("switched off", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, enginetest.Behavior{})
		cfg.Drain.Timeout = new(settings.Duration)
		p, j := ready(t, cfg, hook(t))
		if err := p.Stop(bounded(t)); err != nil {
			t.Error(err)
		}
		wantStates(t, j, StatePreparing, StateStarting, StateReady, StateStopping, StateStopped)
	})
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		p, j := ready(t, fakeConfig(t, enginetest.Behavior{}), hook(t))
		if err := p.Kill(bounded(t)); err != nil && !errors.Is(err, ErrKilled) {
			t.Error(err)
		}
		wantStates(t, j, StatePreparing, StateStarting, StateReady, StateStopping, StateStopped)
	})
}

// An idle replica serves on for its time once its handoff is gone, also when another provisioner stops it; a kill cuts it short.
func TestSettle(t *testing.T) {
	t.Parallel()
	cfg := busyConfig(t, time.Millisecond)
	cfg.Stop.Settle = settings.Duration(20 * time.Second)
	p := abandoned(t, cfg)
	j := &journal{}
	attached, err := Attach(cfg.StateDir, poolR0, WithEventFunc(j.add))
	if err != nil {
		t.Fatal(err)
	}
	stopped := stopping(t.Context(), attached)
	awaitDraining(t, attached)
	if _, err := os.Stat(attached.run.files.Handoff()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the handoff is there: %v", err)
	}
	if r := client.One(probe.URL(cfg.Host, cfg.Port)+"/completion", `{"prompt":"x"}`); r.Err != nil || r.Status != 200 {
		t.Errorf("the client got %+v", r)
	}
	if err := attached.Kill(bounded(t)); err != nil && !errors.Is(err, ErrKilled) {
		t.Error(err)
	}
	if err := <-stopped; err != nil && !errors.Is(err, ErrKilled) {
		t.Error(err)
	}
	_, _ = p.run.host().Leader.Child().Wait()
	nothingLeft(t, p)
}

// A short time comes to its end by itself.
func TestSettles(t *testing.T) {
	t.Parallel()
	cfg := busyConfig(t, time.Millisecond)
	cfg.Stop.Settle = settings.Duration(20 * time.Millisecond)
	p, j := ready(t, cfg)
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	at := map[State]time.Time{}
	for _, e := range j.events {
		if e.Kind == EventState {
			at[e.State] = e.Time
		}
	}
	if took := at[StateStopping].Sub(at[StateDraining]); took < 20*time.Millisecond {
		t.Errorf("it was stopped after %s", took)
	}
}

// Another provisioner drains as the first one would have, with the key and the hooks.
func TestAttachedDrain(t *testing.T) {
	t.Parallel()
	cfg := busyConfig(t, requestTime)
	if err := os.WriteFile(filepath.Join(cfg.Dir, "key"), []byte("the-key-hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(cfg.Dir, "ran")
	cfg.Drain.Hooks = []settings.DrainHook{{Command: []string{"sh", "-c", "echo $ENGINE_PROVISIONER_REPLICA > ran"}}}
	p := abandoned(t, cfg)
	results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
	j := &journal{}
	attached, err := Attach(cfg.StateDir, poolR0, WithEventFunc(j.add))
	if err != nil {
		t.Fatal(err)
	}
	if err := attached.Stop(bounded(t)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if r := <-results; r.Err != nil || r.Status != 200 {
		t.Errorf("the client got %+v", r)
	}
	if data, err := os.ReadFile(ran); err != nil || string(data) != "r0\n" {
		t.Errorf("the hook wrote %q (%v)", data, err)
	}
	wantNote(t, j, "1 request in flight; waiting for up to 20s")
	_, _ = p.run.host().Leader.Child().Wait()
	nothingLeft(t, p)
}

func TestAttachedDrainWithAKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		removed      bool // the key's file
		wiped, noted bool // what the engine was started with cannot be read; so there is no key
	}{
		{name: "as configured"},
		{name: "only its engine has it", removed: true},
		{name: "lost", removed: true, wiped: true, noted: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{WipeEnviron: c.wiped})
			key := filepath.Join(cfg.Dir, "key")
			if err := os.WriteFile(key, []byte("the-key-hunter2\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg.APIKey = &settings.SecretRef{FromFile: "key"}
			p := abandoned(t, cfg)
			if c.removed {
				if err := os.Remove(key); err != nil {
					t.Fatal(err)
				}
			}
			j := &journal{}
			attached, err := Attach(cfg.StateDir, poolR0, WithEventFunc(j.add))
			if err != nil {
				t.Fatal(err)
			}
			if err := attached.Stop(bounded(t)); err != nil {
				t.Errorf("Stop: %v", err)
			}
			if notes := j.notes(); strings.Contains(notes, "not waited for: api_key: cannot read the secret") != c.noted {
				t.Errorf("notes: %q", notes)
			}
			for path, content := range filesBelow(t, cfg.StateDir) {
				if strings.Contains(content, "hunter2") {
					t.Errorf("%s holds the key", path)
				}
			}
			_, _ = p.run.host().Leader.Child().Wait()
			nothingLeft(t, p)
		})
	}
}

func TestAttachedDrainTimeout(t *testing.T) {
	t.Parallel()
	for _, limit := range []time.Duration{0, 2 * time.Second} {
		t.Run(limit.String(), func(t *testing.T) {
			t.Parallel()
			cfg := busyConfig(t, time.Hour)
			cfg.Drain.Timeout = new(settings.Duration(time.Hour))
			p := abandoned(t, cfg)
			results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
			j := &journal{}
			attached, err := Attach(cfg.StateDir, poolR0, WithEventFunc(j.add))
			if err != nil {
				t.Fatal(err)
			}
			if err := attached.StopWith(bounded(t), StopOptions{DrainTimeout: &limit}); !errors.Is(err, ErrKilled) {
				t.Errorf("Stop: %v", err)
			}
			<-results
			if drained := strings.Contains(j.notes(), "the drain's 2s are over"); drained != (limit > 0) {
				t.Errorf("notes: %q", j.notes())
			}
			_, _ = p.run.host().Leader.Child().Wait()
			nothingLeft(t, p)
		})
	}
}

func TestGaugesSum(t *testing.T) {
	t.Parallel()
	g := probe.Series{Path: "/metrics", Names: []string{"running", "waiting"}}
	tests := map[string]struct {
		page string
		want int
		err  string
	}{
		"gauges":       {page: "# TYPE running gauge\nrunning 2\n# TYPE waiting gauge\nwaiting 3\n", want: 5},
		"untyped":      {page: "running 2\nwaiting 0\n", want: 2},
		"labels":       {page: "running{m=\"a\"} 1\nrunning{m=\"b\"} 2\nwaiting{m=\"a\"} 4\n", want: 7},
		"fractions":    {page: "running 0.1\nwaiting 0\n", want: 1},
		"missing":      {page: "running 2\n", err: `lacks the series "waiting"`},
		"not a number": {page: "running NaN\nwaiting 0\n", err: "tells of NaN requests"},
		"negative":     {page: "running -1\nwaiting 0\n", err: "tells of -1 requests"},
		"endless":      {page: "running +Inf\nwaiting 0\n", err: "tells of +Inf requests"},
		"no page":      {page: "{}", err: "is not valid Prometheus text"},
	}
	for name, test := range tests {
		got, err := probe.RequestsOn([]byte(test.page), g)
		if test.err == "" && err != nil || got != test.want {
			t.Errorf("%s: %d (%v), want %d", name, got, err, test.want)
		}
		if test.err != "" {
			wantText(t, err, test.err)
		}
	}
}
