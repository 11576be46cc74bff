package provisioner

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/test/inmemory"
)

// launchCalls are the public methods of a launch.
func launchCalls(p *EngineProvisioner) []inmemory.Call {
	return []inmemory.Call{
		{Name: "Prepare", Do: func() { _, _ = p.Prepare(context.Background()) }},
		{Name: "Start", Do: func() { _ = p.Start(context.Background()) }},
		{Name: "WaitReady", Do: func() { _, _ = p.WaitReady(context.Background()) }},
		{Name: "Stop", Do: func() { _ = p.Stop(context.Background()) }},
		{Name: "Kill", Do: func() { _ = p.Kill(context.Background()) }},
		{Name: "Stop that nobody waits for", Do: func() { _ = p.Stop(gone()) }},
		{Name: "Release", Do: func() { p.Release() }},
		{Name: "Status, Err and Done", Do: func() { _, _, _ = p.Status(), p.Err(), p.Done() }},
	}
}

// launchStates bring a launch into a state, and return the one that it is about then.
var launchStates = []struct {
	name string
	in   func(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner
}{
	{"new", newInState},
	{"preparing", func(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
		p := newInState(t, m, cfg)
		m.Still(&m.Starting)
		m.Begin(t, func() { _ = p.Start(context.Background()) })
		<-m.Reached
		return p
	}},
	{"starting", func(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
		p := newInState(t, m, cfg)
		m.Still(&m.Loading)
		noError(t, p.Start(bounded(t)))
		m.Begin(t, func() { _, _ = p.WaitReady(context.Background()) })
		<-m.Reached
		return p
	}},
	{"ready", readyInMemory},
	{"draining", func(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
		p := readyInMemory(t, m, cfg)
		m.Still(&m.Busy)
		m.Begin(t, func() { _ = p.Stop(context.Background()) })
		<-m.Reached
		return p
	}},
	{"stopping", func(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
		p := readyInMemory(t, m, cfg)
		m.Still(&m.Ignorant)
		m.Begin(t, func() { _ = p.Stop(context.Background()) })
		<-m.Reached
		return p
	}},
	{"stopped", func(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
		p := readyInMemory(t, m, cfg)
		noError(t, p.Stop(bounded(t)))
		return p
	}},
	{"failed", func(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
		p := readyInMemory(t, m, cfg)
		m.KillAll()
		awaitDone(t, p)
		return p
	}},
	{"attached", func(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
		readyInMemory(t, m, cfg).Release()
		return attachedInMemory(t, m, cfg)
	}},
	{"attached while it loads", func(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
		p := newInState(t, m, cfg)
		m.Still(&m.Loading)
		noError(t, p.Start(bounded(t)))
		p.Release()
		return attachedInMemory(t, m, cfg)
	}},
	{"released", func(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
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

func newInState(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
	p, err := New(cfg, append(inMemory(m), WithCacheDir(cfg.Dir))...)
	noError(t, err)
	return p
}

func readyInMemory(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
	p := newInState(t, m, cfg)
	noError(t, p.Start(bounded(t)))
	_, err := p.WaitReady(bounded(t))
	noError(t, err)
	return p
}

func attachedInMemory(t *testing.T, m *inmemory.Machine, cfg ProvisionConfig) *EngineProvisioner {
	p, err := Attach(cfg.StateDir, cfg.ID(), inMemory(m)...)
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
			inmemory.PairsOf(len(launchCalls(nil)), func(a, b int) {
				m := inmemory.New()
				cfg := memoryConfig(t)
				t.Run("", func(t *testing.T) {
					t.Cleanup(m.KillAll)
					pairs.Add(1)
					p := state.in(t, m, cfg)
					calls := launchCalls(p)
					m.AtOnce(t, state.name, calls[a], calls[b])
					// Whoever was first, it ends for good, and everybody hears the same.
					returns(t, "the last Stop", func() { _ = p.Stop(context.Background()) })
					awaitClosed(t, "Done", p.Done())
					first, second := p.Stop(context.Background()), p.Stop(context.Background())
					if !errors.Is(first, second) && !errors.Is(second, first) {
						t.Errorf("%s and %s: Stop says %v, and then %v", calls[a].Name, calls[b].Name, first, second)
					}
					if s := p.Status().State; !s.Final() && !errors.Is(p.Err(), ErrReleased) {
						t.Errorf("%s and %s: done, and %s", calls[a].Name, calls[b].Name, s)
					}
				})
			})
		})
	}
}
