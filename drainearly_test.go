package provisioner

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/test/client"
	"github.com/llama-orch/engine-provisioner/settings"
)

// unproven is a replica that serves requests and is never ready, since its health page says that it loads. A request takes d.
func unproven(t testing.TB, d time.Duration) ProvisionConfig {
	cfg := busyConfig(t, d)
	b := enginetest.Behavior{BusyRequests: d, HealthStatus: http.StatusServiceUnavailable}
	cfg.Provisioning.Binary.Path = fakeConfig(t, b).Provisioning.Binary.Path
	return cfg
}

// answeringEarly is started, with an engine that answers.
func answeringEarly(t testing.TB, cfg ProvisionConfig, opts ...Option) (*EngineProvisioner, *journal) {
	t.Helper()
	p, j := started(t, cfg, opts...)
	eventually(t, "it answers", func() bool {
		_, err := probe.New("127.0.0.1", cfg.Port, secret.Text{}, patience).Get(t.Context(), "/metrics", probe.MaxHealthBody)
		return err == nil
	})
	return p, j
}

// Clients of an engine that has not proven to be ready are not cut off, whoever stops it. No hook runs: nothing was published.
func TestStopDrainsBeforeReadiness(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"its own", "attached", "recovered", "interrupted"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			cfg := unproven(t, requestTime)
			unwanted := WithDrainHook("unwanted", func(context.Context, Handoff) error { t.Error("the hook ran"); return nil })
			p, j := answeringEarly(t, cfg, unwanted)
			results := inFlight(t, cfg, 2, `{"prompt":"x"}`)
			stops := p
			if who != "its own" {
				if who == "interrupted" { // a program died amid its drain
					p.mu.Lock()
					p.early = true
					p.mu.Unlock()
					p.recordStop(p.run, StateDraining)
				}
				j = &journal{}
				p.Release()
			}
			switch who {
			case "attached", "interrupted":
				var err error
				if stops, err = Attach(cfg.StateDir, poolR0, WithEventFunc(j.add), unwanted); err != nil {
					t.Fatal(err)
				}
			case "recovered":
				adopted, _, err := Recover(bounded(t), cfg.StateDir, WithEventFunc(j.add), unwanted)
				if err != nil || len(adopted) != 1 {
					t.Fatalf("%v, %v", adopted, err)
				}
				stops = adopted[0]
			}
			if err := stops.Stop(bounded(t)); err != nil {
				t.Errorf("Stop: %v", err)
			}
			for range 2 {
				if r := <-results; r.Err != nil || r.Status != http.StatusOK {
					t.Errorf("a client got %+v", r)
				}
			}
			nothingLeft(t, stops)
			wantNote(t, j, "2 requests in flight; waiting for up to 20s")
		})
	}
}

// A load is stopped at once, and so is what is not to be drained.
func TestEarlyStopsWithoutDrain(t *testing.T) {
	t.Parallel()
	t.Run("a short limit", func(t *testing.T) {
		t.Parallel()
		cfg := unproven(t, time.Hour)
		cfg.Drain.Timeout = new(settings.Duration(time.Second))
		p, j := answeringEarly(t, cfg)
		results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
		if err := p.Stop(bounded(t)); !errors.Is(err, ErrKilled) {
			t.Errorf("Stop: %v", err)
		}
		<-results
		nothingLeft(t, p)
		wantNote(t, j, "the drain's 1s are over with 1 request in flight")
	})
	for name, stops := range map[string]func(*testing.T, *ProvisionConfig, *enginetest.Behavior){
		"no limit": func(_ *testing.T, cfg *ProvisionConfig, _ *enginetest.Behavior) {
			cfg.Drain.Timeout = new(settings.Duration)
		},
		"idle":          func(*testing.T, *ProvisionConfig, *enginetest.Behavior) {},
		"loading":       func(_ *testing.T, _ *ProvisionConfig, b *enginetest.Behavior) { b.LoadTime = time.Hour },
		"no port":       func(_ *testing.T, _ *ProvisionConfig, b *enginetest.Behavior) { b.Bind = enginetest.BindNever },
		"accepts alone": func(_ *testing.T, _ *ProvisionConfig, b *enginetest.Behavior) { b.Health = enginetest.AcceptOnly },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, b := fakeConfig(t, enginetest.Behavior{}), enginetest.Behavior{HealthStatus: http.StatusServiceUnavailable}
			cfg.Drain.Timeout = new(settings.Duration(time.Hour))
			stops(t, &cfg, &b)
			cfg.Provisioning.Binary.Path = fakeConfig(t, b).Provisioning.Binary.Path
			p, j := started(t, cfg)
			if err := p.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
			nothingLeft(t, p)
			wantStates(t, j, StatePreparing, StateStarting, StateStopping, StateStopped)
			if notes := j.notes(); notes != "" {
				t.Errorf("notes: %s", notes)
			}
		})
	}
}

// The manager's own question for a token is no client: it is given up when the engine is stopped, here or elsewhere.
func TestOwnQuestionIsNoClient(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"its own", "attached"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{Answer: enginetest.AnswerHang})
			cfg.Drain.Timeout = new(settings.Duration(time.Hour))
			p, j := started(t, cfg)
			waited := make(chan error, 1)
			go func() {
				_, err := p.WaitReady(bounded(t))
				waited <- err
			}()
			eventually(t, "it is asked for a token", func() bool { return p.Status().Heard == "200 OK, but no token yet" })
			stops := p
			if who == "attached" {
				var err error
				if stops, err = Attach(cfg.StateDir, poolR0, WithEventFunc(j.add)); err != nil {
					t.Fatal(err)
				}
			}
			if err := stops.Stop(bounded(t)); err != nil && !errors.Is(err, ErrKilled) {
				t.Error(err)
			}
			if err := <-waited; !errors.Is(err, ErrStopped) {
				t.Errorf("WaitReady: %v", err)
			}
			nothingLeft(t, p)
		})
	}
}

// A full engine that was healthy and leaves its metrics unanswered has clients, also before its first token.
func TestStopDrainsASaturatedEngineThatIsBeingProven(t *testing.T) {
	t.Parallel()
	cfg := busyConfig(t, requestTime)
	cfg.Ready.Answer = ""
	cfg.Drain.Timeout = new(settings.Duration(patience))
	b := enginetest.Behavior{BusyRequests: requestTime, Threads: 1}
	cfg.Provisioning.Binary.Path = fakeConfig(t, b).Provisioning.Binary.Path
	p, _ := answeringEarly(t, cfg)
	p.hear(healthyWords)
	const clients = 3
	results := make(chan client.Result, clients)
	for range clients {
		go func() { results <- client.One(probe.URL("127.0.0.1", cfg.Port)+"/completion", `{"prompt":"x"}`) }()
	}
	eventually(t, "no page is answered", func() bool {
		_, err := probe.New("127.0.0.1", cfg.Port, secret.Text{}, 500*time.Millisecond).Get(t.Context(), "/health", probe.MaxHealthBody)
		return errors.Is(err, probe.ErrNoAnswer)
	})
	if err := p.Stop(bounded(t)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	for range clients {
		if r := <-results; r.Err != nil || r.Status != http.StatusOK {
			t.Errorf("a client got %+v", r)
		}
	}
	nothingLeft(t, p)
}

// A llama-server that nobody has proven to be ready answers its clients before it ends.
func TestRealStopBeforeReadiness(t *testing.T) {
	t.Parallel()
	cfg := saturatedConfig(t)
	p, j := started(t, cfg)
	count, err := p.counter(p.run, patience)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is loaded", func() bool { _, _, err := count(t.Context()); return err == nil })
	const clients = 2
	results := make(chan client.Result, clients)
	for range clients {
		go func() {
			results <- client.One(probe.URL("127.0.0.1", cfg.Port)+"/completion", `{"prompt":"word","n_predict":500,"stream":true,"ignore_eos":true}`)
		}()
	}
	eventually(t, "they are in flight", func() bool { n, _, err := count(t.Context()); return err == nil && n == clients })
	if err := p.Stop(bounded(t)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	for range clients {
		if r := <-results; r.Err != nil || r.Status != http.StatusOK || !strings.Contains(r.Body, `"stop":true`) {
			t.Errorf("a client got %d, %v", r.Status, r.Err)
		}
	}
	wantStates(t, j, StatePreparing, StateStarting, StateDraining, StateStopping, StateStopped)
	nothingLeft(t, p)
}
