package provisioner

import (
	"context"
	"errors"
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
		{name: "Stop that nobody waits for", do: func() { _ = p.Stop(gone()) }},
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
	p, err := Attach(cfg.StateDir, cfg.ID(), m.options()...)
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
