package inmemory

import (
	"context"
	"sync"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/test/wait"
)

// Call is a public method, with whatever it takes.
type Call struct {
	Name string
	Do   func()
	// Wait is instead of Do for one that others have to end: its context ends when they have returned.
	Wait func(context.Context)
}

// AtOnce calls all at one moment, lets the engine go on that stands still, and fails with all stacks unless all return.
func (m *Machine) AtOnce(t *testing.T, state string, calls ...Call) {
	t.Helper()
	barrier := make(chan struct{})
	waiting, enough := context.WithCancel(context.Background())
	defer enough()
	var doers, waiters sync.WaitGroup
	what := state + ":"
	for _, c := range calls {
		what += " " + c.Name + ","
		if c.Do != nil {
			doers.Go(func() { <-barrier; c.Do() })
		} else {
			waiters.Go(func() { <-barrier; c.Wait(waiting) })
		}
	}
	close(barrier)
	m.GoOn()
	wait.Returns(t, what, doers.Wait)
	enough()
	wait.Returns(t, what, waiters.Wait)
}

// PairsOf calls test with each two of calls, and each twice.
func PairsOf(n int, test func(a, b int)) {
	for a := range n {
		for b := a; b < n; b++ {
			test(a, b)
		}
	}
}

// Begin does in the background what brings a launch into its state. It comes to its end before the test does.
func (m *Machine) Begin(t *testing.T, f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	t.Cleanup(func() { wait.Closed(t, "what brought the launch into its state", done) })
}
