// Package wait has the waits of tests: for what has no channel, and for calls that must return. All of them are bounded, and
// none is a pause.
//
// Tests of every package call it, and nothing else.
package wait

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// Patience bounds every wait in the tests. It is long because it ends only tests that fail anyway.
const Patience = 2 * time.Minute

// Bounded is a context for one test.
func Bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Until waits for a condition that has no channel, such as what another process does.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// Returns fails the test with the stacks of all goroutines unless f returns.
func Returns(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	Closed(t, what, done)
}

// Closed fails the test with the stacks of all goroutines unless done is closed.
func Closed(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(Patience):
		stacks := make([]byte, 8<<20)
		t.Fatalf("%s hangs\n%s", what, stacks[:runtime.Stack(stacks, true)])
	}
}
