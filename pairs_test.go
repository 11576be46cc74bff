package provisioner

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
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

// launchCalls are the public methods of a launch.
func launchCalls(p *EngineProvisioner) []call {
	return []call{
		{name: "Prepare", do: func() { _, _ = p.Prepare(context.Background()) }},
		{name: "Start", do: func() { _ = p.Start(context.Background()) }},
		{name: "WaitReady", do: func() { _, _ = p.WaitReady(context.Background()) }},
		{name: "Stop", do: func() { _ = p.Stop(context.Background()) }},
		{name: "Kill", do: func() { _ = p.Kill(context.Background()) }},
		{name: "Stop that nobody waits for", do: func() { _ = p.Stop(unwilling()) }},
		{name: "Release", do: func() { p.Release() }},
		{name: "Status, Err and Done", do: func() { _, _, _ = p.Status(), p.Err(), p.Done() }},
	}
}

// launchStates bring a launch into a state, and return the one that it is about then.
var launchStates = []struct {
	name string
	in   func(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner
}{
	{"new", newInState},
	{"preparing", func(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
		p := newInState(t, m, cfg)
		m.still(&m.starting)
		m.begin(t, func() { _ = p.Start(context.Background()) })
		<-m.reached
		return p
	}},
	{"starting", func(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
		p := newInState(t, m, cfg)
		m.still(&m.loading)
		noError(t, p.Start(bounded(t)))
		m.begin(t, func() { _, _ = p.WaitReady(context.Background()) })
		<-m.reached
		return p
	}},
	{"ready", readyInMemory},
	{"draining", func(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
		p := readyInMemory(t, m, cfg)
		m.still(&m.busy)
		m.begin(t, func() { _ = p.Stop(context.Background()) })
		<-m.reached
		return p
	}},
	{"stopping", func(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
		p := readyInMemory(t, m, cfg)
		m.still(&m.ignorant)
		m.begin(t, func() { _ = p.Stop(context.Background()) })
		<-m.reached
		return p
	}},
	{"stopped", func(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
		p := readyInMemory(t, m, cfg)
		noError(t, p.Stop(bounded(t)))
		return p
	}},
	{"failed", func(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
		p := readyInMemory(t, m, cfg)
		m.killAll()
		awaitDone(t, p)
		return p
	}},
	{"attached", func(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
		readyInMemory(t, m, cfg).Release()
		return attachedInMemory(t, m, cfg)
	}},
	{"attached while it loads", func(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
		p := newInState(t, m, cfg)
		m.still(&m.loading)
		noError(t, p.Start(bounded(t)))
		p.Release()
		return attachedInMemory(t, m, cfg)
	}},
	{"released", func(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
		p := readyInMemory(t, m, cfg)
		p.Release()
		return p
	}},
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

func newInState(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
	p, err := New(cfg, append(m.options(), WithCacheDir(cfg.Dir))...)
	noError(t, err)
	return p
}

func readyInMemory(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
	p := newInState(t, m, cfg)
	noError(t, p.Start(bounded(t)))
	_, err := p.WaitReady(bounded(t))
	noError(t, err)
	return p
}

func attachedInMemory(t *testing.T, m *inMemory, cfg ProvisionConfig) *EngineProvisioner {
	p, err := Attach(cfg.StateDir, cfg.PoolID, cfg.ReplicaID, m.options()...)
	noError(t, err)
	return p
}

// No two methods of a launch hang when they are called at the same moment, in whatever state it is.
func TestChaosTwoCalls(t *testing.T) {
	t.Parallel()
	var pairs atomic.Int64
	t.Cleanup(func() {
		t.Logf("chaos: %d pairs of calls in %d states of a launch, none hung", pairs.Load(), len(launchStates))
	})
	for _, state := range launchStates {
		t.Run(state.name, func(t *testing.T) {
			t.Parallel()
			pairsOf(len(launchCalls(nil)), func(a, b int) {
				m := newInMemory()
				cfg := memoryConfig(t)
				t.Run("", func(t *testing.T) {
					t.Cleanup(m.killAll)
					pairs.Add(1)
					p := state.in(t, m, cfg)
					calls := launchCalls(p)
					m.atOnce(t, state.name, calls[a], calls[b])
					// Whoever was first, it ends for good, and everybody hears the same.
					returns(t, "the last Stop", func() { _ = p.Stop(context.Background()) })
					awaitClosed(t, "Done", p.Done())
					first, second := p.Stop(context.Background()), p.Stop(context.Background())
					if !errors.Is(first, second) && !errors.Is(second, first) {
						t.Errorf("%s and %s: Stop says %v, and then %v", calls[a].name, calls[b].name, first, second)
					}
					if s := p.Status().State; !s.Final() && !errors.Is(p.Err(), ErrReleased) {
						t.Errorf("%s and %s: done, and %s", calls[a].name, calls[b].name, s)
					}
				})
			})
		})
	}
}

// supervisorCalls are the public methods of a supervisor of cfg.
func supervisorCalls(s *Supervisor, cfg ProvisionConfig) []call {
	ctx := context.Background()
	return []call{
		{name: "WaitReady", do: func() { _ = s.WaitReady(ctx) }},
		{name: "Reset", do: func() { _ = s.Reset(ctx, cfg.PoolID, cfg.ReplicaID) }},
		{name: "StopReplica", do: func() { _ = s.StopReplica(ctx, cfg.PoolID, cfg.ReplicaID) }},
		{name: "Reload", do: func() { _ = s.Reload(ctx, changed(cfg)) }},
		{name: "Apply", do: func() { _, _ = s.Apply(ctx, []ProvisionConfig{changed(cfg)}) }},
		{name: "Stop", do: func() { _ = s.Stop(ctx) }},
		{name: "Kill", do: func() { _ = s.Kill(ctx) }},
		{name: "KillReplica", do: func() { _ = s.KillReplica(ctx, cfg.PoolID, cfg.ReplicaID) }},
		{name: "Stop that nobody waits for", do: func() { _ = s.Stop(unwilling()) }},
		{name: "Release", do: func() { _ = s.Release() }},
		{name: "Status, LogDir, Done and Events", do: func() {
			ctx, cancel := context.WithCancel(ctx)
			events := s.Events(ctx)
			cancel()
			_, _ = s.Status(), s.Done()
			_, _ = s.LogDir("pool", "r0")
			for range events {
			}
		}},
		{name: "Wait", wait: func(ctx context.Context) { _ = s.Wait(ctx) }},
	}
}

// changed is another configuration of the same replica.
func changed(cfg ProvisionConfig) ProvisionConfig {
	cfg.Env = map[string]EnvValue{"CHANGED": {Value: "1"}}
	return cfg
}

// supervisorStates bring a supervisor's replica into a state.
var supervisorStates = []struct {
	name string
	in   func(t *testing.T, m *inMemory, s func() *Supervisor)
}{
	{"preparing", func(_ *testing.T, m *inMemory, s func() *Supervisor) {
		m.still(&m.starting)
		s()
		<-m.reached
	}},
	{"starting", func(_ *testing.T, m *inMemory, s func() *Supervisor) {
		m.still(&m.loading)
		s()
		<-m.reached
	}},
	{"ready", func(t *testing.T, _ *inMemory, s func() *Supervisor) { noError(t, s().WaitReady(bounded(t))) }},
	{"draining", func(t *testing.T, m *inMemory, s func() *Supervisor) {
		noError(t, s().WaitReady(bounded(t)))
		m.still(&m.busy)
		m.begin(t, func() { _ = s().StopReplica(context.Background(), "pool", "r0") })
		<-m.reached
	}},
	{"stopping", func(t *testing.T, m *inMemory, s func() *Supervisor) {
		noError(t, s().WaitReady(bounded(t)))
		m.still(&m.ignorant)
		m.begin(t, func() { _ = s().StopReplica(context.Background(), "pool", "r0") })
		<-m.reached
	}},
	{"stopped", func(t *testing.T, _ *inMemory, s func() *Supervisor) {
		noError(t, s().WaitReady(bounded(t)))
		noError(t, s().StopReplica(bounded(t), "pool", "r0"))
	}},
	{"waiting for its next try", func(t *testing.T, m *inMemory, s func() *Supervisor) {
		m.cannotRun = true
		eventually(t, "a wait", func() bool { return s().Status()[0].Restarts.waits() })
	}},
	{"adopted", func(t *testing.T, _ *inMemory, s func() *Supervisor) {
		noError(t, s().WaitReady(bounded(t)))
		noError(t, s().Release())
		awaitClosed(t, "Release", s().Done())
	}},
	{"ended", func(t *testing.T, _ *inMemory, s func() *Supervisor) {
		noError(t, s().WaitReady(bounded(t)))
		noError(t, s().Stop(bounded(t)))
	}},
	{"released", func(t *testing.T, _ *inMemory, s func() *Supervisor) {
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
			pairsOf(len(supervisorCalls(nil, ProvisionConfig{})), func(a, b int) {
				if !long && (a+b+n)%3 > 0 {
					return
				}
				m := newInMemory()
				cfg := memoryConfig(t)
				cfg.Restart = RestartConfig{InitialDelay: Duration(patience), MaxDelay: Duration(patience)}
				t.Run("", func(t *testing.T) {
					t.Cleanup(m.killAll)
					pairs.Add(1)
					var s *Supervisor
					supervise := func() *Supervisor {
						if s == nil {
							var err error
							s, err = Supervise(bounded(t), []ProvisionConfig{cfg}, append(m.options(), WithCacheDir(cfg.Dir))...)
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
					returns(t, "the last Stop", func() { _ = s.Stop(context.Background()) })
					awaitClosed(t, "Done", s.Done())
					if i := slices.IndexFunc(s.replicas, func(r *replica) bool { return !closed(r.done) }); i >= 0 {
						t.Errorf("%s and %s: %s is still looked after", calls[a].name, calls[b].name, s.replicas[i].name)
					}
				})
			})
		})
	}
}
