package fleet

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/test/inmemory"
	"github.com/llama-orch/engine-provisioner/settings"
)

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// supervisorCalls are the public methods of a manager of cfg.
func supervisorCalls(s *Fleet, cfg provisioner.ProvisionConfig) []inmemory.Call {
	ctx := context.Background()
	return []inmemory.Call{
		{Name: "WaitReady", Do: func() { _ = s.WaitReady(ctx) }},
		{Name: "Reset", Do: func() { _ = s.Start(ctx, provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}) }},
		{Name: "StopReplica", Do: func() {
			_ = s.Stop(ctx, provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}, provisioner.StopOptions{})
		}},
		{Name: "Hold and Unhold", Do: func() {
			_ = s.Hold(ctx, cfg.ID(), hold.Hold{Reason: "test"}, provisioner.StopOptions{})
			_ = s.Unhold(ctx, cfg.ID())
		}},
		{Name: "Reload", Do: func() { _ = s.Reload(ctx, changed(cfg)) }},
		{Name: "Apply", Do: func() { _, _ = s.Apply(ctx, []provisioner.ProvisionConfig{changed(cfg)}) }},
		{Name: "Stop", Do: func() { _ = s.Shutdown(ctx) }},
		{Name: "Kill", Do: func() { _ = s.KillAll(ctx) }},
		{Name: "KillReplica", Do: func() { _ = s.Kill(ctx, provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}) }},
		{Name: "Stop that nobody waits for", Do: func() { _ = s.Shutdown(unwilling()) }},
		{Name: "Release", Do: func() { _ = s.Release() }},
		{Name: "Status, LogDir, Done and Events", Do: func() {
			ctx, cancel := context.WithCancel(ctx)
			events := s.Events(ctx)
			cancel()
			_, _ = s.Status(), s.Done()
			_, _ = s.LogDir(poolR0)
			for range events {
			}
		}},
		{Name: "Wait", Wait: func(ctx context.Context) { _ = s.Wait(ctx) }},
	}
}

// changed is another configuration of the same replica.
func changed(cfg provisioner.ProvisionConfig) provisioner.ProvisionConfig {
	cfg.Env = map[string]settings.EnvValue{"CHANGED": {Value: "1"}}
	return cfg
}

// supervisorStates bring a manager's replica into a state.
var supervisorStates = []struct {
	name string
	in   func(t *testing.T, m *inmemory.Machine, s func() *Fleet)
}{
	{"preparing", func(_ *testing.T, m *inmemory.Machine, s func() *Fleet) {
		m.Still(&m.Starting)
		s()
		<-m.Reached
	}},
	{"starting", func(_ *testing.T, m *inmemory.Machine, s func() *Fleet) {
		m.Still(&m.Loading)
		s()
		<-m.Reached
	}},
	{"ready", func(t *testing.T, _ *inmemory.Machine, s func() *Fleet) { noError(t, s().WaitReady(bounded(t))) }},
	{"draining", func(t *testing.T, m *inmemory.Machine, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		m.Still(&m.Busy)
		m.Begin(t, func() {
			_ = s().Stop(context.Background(), poolR0, provisioner.StopOptions{})
		})
		<-m.Reached
	}},
	{"stopping", func(t *testing.T, m *inmemory.Machine, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		m.Still(&m.Ignorant)
		m.Begin(t, func() {
			_ = s().Stop(context.Background(), poolR0, provisioner.StopOptions{})
		})
		<-m.Reached
	}},
	{"stopped", func(t *testing.T, _ *inmemory.Machine, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		noError(t, s().Stop(bounded(t), poolR0, provisioner.StopOptions{}))
	}},
	{"waiting for its next try", func(t *testing.T, m *inmemory.Machine, s func() *Fleet) {
		m.CannotRun = true
		eventually(t, "a wait", func() bool { return policy.Waits(*s().Status()[0].Restarts) })
	}},
	{"adopted", func(t *testing.T, _ *inmemory.Machine, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		noError(t, s().Release())
		awaitClosed(t, "Release", s().Done())
	}},
	{"ended", func(t *testing.T, _ *inmemory.Machine, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		noError(t, s().Shutdown(bounded(t)))
	}},
	{"released", func(t *testing.T, _ *inmemory.Machine, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		noError(t, s().Release())
	}},
}

// Nor do two methods of a manager. The short form calls each two in three or four of the states.
func TestChaosTwoCallsOfASupervisor(t *testing.T) {
	t.Parallel()
	_, long := chaosCount(t, "CHAOS_ROUNDS", 0)
	var pairs atomic.Int64
	t.Cleanup(func() {
		t.Logf("chaos: %d pairs of calls in %d states of a manager, none hung", pairs.Load(), len(supervisorStates))
	})
	for n, state := range supervisorStates {
		t.Run(state.name, func(t *testing.T) {
			t.Parallel()
			inmemory.PairsOf(len(supervisorCalls(nil, provisioner.ProvisionConfig{})), func(a, b int) {
				if !long && (a+b+n)%3 > 0 {
					return
				}
				m := inmemory.New()
				cfg := memoryConfig(t)
				cfg.Restart = settings.Restart{InitialDelay: settings.Duration(patience), MaxDelay: settings.Duration(patience)}
				t.Run("", func(t *testing.T) {
					t.Cleanup(m.KillAll)
					pairs.Add(1)
					var s *Fleet
					supervise := func() *Fleet {
						if s == nil {
							var err error
							s, err = opened(bounded(t), []provisioner.ProvisionConfig{cfg}, append(inMemory(m), provisioner.WithCacheDir(cfg.Dir))...)
							noError(t, err)
						}
						return s
					}
					state.in(t, m, supervise)
					if state.name == "adopted" {
						s = nil
						supervise()
					}
					calls := supervisorCalls(s, cfg)
					m.AtOnce(t, state.name, calls[a], calls[b])
					returns(t, "the last Stop", func() { _ = s.Shutdown(context.Background()) })
					awaitClosed(t, "Done", s.Done())
					if i := slices.IndexFunc(s.replicas, func(r *replica) bool { return !closed(r.done) }); i >= 0 {
						t.Errorf("%s and %s: %s is still looked after", calls[a].Name, calls[b].Name, s.replicas[i].name)
					}
				})
			})
		})
	}
}

// unwilling is the context of who waits for nothing.
func unwilling() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
