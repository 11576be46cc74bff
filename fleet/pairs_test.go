package fleet

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// call is a public method, with whatever it takes.
type call struct {
	name string
	do   func()
	// wait is instead of do for one that others have to end: its context ends when they have returned.
	wait func(context.Context)
}

// atOnce calls all at one moment, lets the engine go on that stands still, and fails with all stacks unless all return.
func (m *inMemory) atOnce(t *testing.T, state string, calls ...call) {
	t.Helper()
	barrier := make(chan struct{})
	waiting, enough := context.WithCancel(context.Background())
	defer enough()
	var doers, waiters sync.WaitGroup
	what := state + ":"
	for _, c := range calls {
		what += " " + c.name + ","
		if c.do != nil {
			doers.Go(func() { <-barrier; c.do() })
		} else {
			waiters.Go(func() { <-barrier; c.wait(waiting) })
		}
	}
	close(barrier)
	m.goOn()
	returns(t, what, doers.Wait)
	enough()
	returns(t, what, waiters.Wait)
}

// pairsOf calls test with each two of calls, and each twice.
func pairsOf(n int, test func(a, b int)) {
	for a := range n {
		for b := a; b < n; b++ {
			test(a, b)
		}
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// begin does in the background what brings a launch into its state. It comes to its end before the test does.
func (m *inMemory) begin(t *testing.T, f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	t.Cleanup(func() { awaitClosed(t, "what brought the launch into its state", done) })
}

// supervisorCalls are the public methods of a supervisor of cfg.
func supervisorCalls(s *Fleet, cfg provisioner.ProvisionConfig) []call {
	ctx := context.Background()
	return []call{
		{name: "WaitReady", do: func() { _ = s.WaitReady(ctx) }},
		{name: "Reset", do: func() { _ = s.Start(ctx, provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}) }},
		{name: "StopReplica", do: func() {
			_ = s.Stop(ctx, provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}, provisioner.StopOptions{})
		}},
		{name: "Reload", do: func() { _ = s.Reload(ctx, changed(cfg)) }},
		{name: "Apply", do: func() { _, _ = s.Apply(ctx, []provisioner.ProvisionConfig{changed(cfg)}) }},
		{name: "Stop", do: func() { _ = s.Shutdown(ctx) }},
		{name: "Kill", do: func() { _ = s.KillAll(ctx) }},
		{name: "KillReplica", do: func() { _ = s.Kill(ctx, provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}) }},
		{name: "Stop that nobody waits for", do: func() { _ = s.Shutdown(unwilling()) }},
		{name: "Release", do: func() { _ = s.Release() }},
		{name: "Status, LogDir, Done and Events", do: func() {
			ctx, cancel := context.WithCancel(ctx)
			events := s.Events(ctx)
			cancel()
			_, _ = s.Status(), s.Done()
			_, _ = s.LogDir(poolR0)
			for range events {
			}
		}},
		{name: "Wait", wait: func(ctx context.Context) { _ = s.Wait(ctx) }},
	}
}

// changed is another configuration of the same replica.
func changed(cfg provisioner.ProvisionConfig) provisioner.ProvisionConfig {
	cfg.Env = map[string]provisioner.EnvValue{"CHANGED": {Value: "1"}}
	return cfg
}

// supervisorStates bring a supervisor's replica into a state.
var supervisorStates = []struct {
	name string
	in   func(t *testing.T, m *inMemory, s func() *Fleet)
}{
	{"preparing", func(_ *testing.T, m *inMemory, s func() *Fleet) {
		m.still(&m.starting)
		s()
		<-m.reached
	}},
	{"starting", func(_ *testing.T, m *inMemory, s func() *Fleet) {
		m.still(&m.loading)
		s()
		<-m.reached
	}},
	{"ready", func(t *testing.T, _ *inMemory, s func() *Fleet) { noError(t, s().WaitReady(bounded(t))) }},
	{"draining", func(t *testing.T, m *inMemory, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		m.still(&m.busy)
		m.begin(t, func() {
			_ = s().Stop(context.Background(), poolR0, provisioner.StopOptions{})
		})
		<-m.reached
	}},
	{"stopping", func(t *testing.T, m *inMemory, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		m.still(&m.ignorant)
		m.begin(t, func() {
			_ = s().Stop(context.Background(), poolR0, provisioner.StopOptions{})
		})
		<-m.reached
	}},
	{"stopped", func(t *testing.T, _ *inMemory, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		noError(t, s().Stop(bounded(t), poolR0, provisioner.StopOptions{}))
	}},
	{"waiting for its next try", func(t *testing.T, m *inMemory, s func() *Fleet) {
		m.cannotRun = true
		eventually(t, "a wait", func() bool { return waits(*s().Status()[0].Restarts) })
	}},
	{"adopted", func(t *testing.T, _ *inMemory, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		noError(t, s().Release())
		awaitClosed(t, "Release", s().Done())
	}},
	{"ended", func(t *testing.T, _ *inMemory, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		noError(t, s().Shutdown(bounded(t)))
	}},
	{"released", func(t *testing.T, _ *inMemory, s func() *Fleet) {
		noError(t, s().WaitReady(bounded(t)))
		noError(t, s().Release())
	}},
}

// Nor do two methods of a supervisor. The short form calls each two in three or four of the states.
func TestChaosTwoCallsOfASupervisor(t *testing.T) {
	t.Parallel()
	_, long := chaosCount(t, "CHAOS_ROUNDS", 0)
	var pairs atomic.Int64
	t.Cleanup(func() {
		t.Logf("chaos: %d pairs of calls in %d states of a supervisor, none hung", pairs.Load(), len(supervisorStates))
	})
	for n, state := range supervisorStates {
		t.Run(state.name, func(t *testing.T) {
			t.Parallel()
			pairsOf(len(supervisorCalls(nil, provisioner.ProvisionConfig{})), func(a, b int) {
				if !long && (a+b+n)%3 > 0 {
					return
				}
				m := newInMemory()
				cfg := memoryConfig(t)
				cfg.Restart = provisioner.RestartConfig{InitialDelay: provisioner.Duration(patience), MaxDelay: provisioner.Duration(patience)}
				t.Run("", func(t *testing.T) {
					t.Cleanup(m.killAll)
					pairs.Add(1)
					var s *Fleet
					supervise := func() *Fleet {
						if s == nil {
							var err error
							s, err = opened(bounded(t), []provisioner.ProvisionConfig{cfg}, append(m.options(), provisioner.WithCacheDir(cfg.Dir))...)
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
					m.atOnce(t, state.name, calls[a], calls[b])
					returns(t, "the last Stop", func() { _ = s.Shutdown(context.Background()) })
					awaitClosed(t, "Done", s.Done())
					if i := slices.IndexFunc(s.replicas, func(r *replica) bool { return !closed(r.done) }); i >= 0 {
						t.Errorf("%s and %s: %s is still looked after", calls[a].name, calls[b].name, s.replicas[i].name)
					}
				})
			})
		})
	}
}
