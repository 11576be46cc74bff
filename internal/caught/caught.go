// Package caught turns a panic into an error, for a program in which one replica's mistake must not be the end of all. It
// belongs at the few places where such work begins, and not around each call: behind it, locks are free and files are
// closed only as far as defers see to that.
//
// The loops of a launch and of a fleet call it. It starts nothing again: what the error means is its caller's.
package caught

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// PanicError is the error that a panic has become. It wraps nothing: what was panicked with says nothing to those who look for
// errors of theirs.
type PanicError struct {
	Value string // what it was called with, fit for a terminal
	Stack string
}

// Error says what it was and what to do. The stack is for the log.
func (p *PanicError) Error() string {
	return fmt.Sprintf("internal error: %s; this is a mistake in engine-provisioner: report it, with the stack in the log", p.Value)
}

// Into makes a panic of the function that defers it the error *err, and logs it with its stack. Without a panic it does
// nothing. It must be deferred itself, not called by what is deferred.
func Into(err *error, log *slog.Logger, who string) {
	value := recover()
	if value == nil {
		return
	}
	p := &PanicError{Value: tail.Clean(fmt.Sprint(value)), Stack: string(debug.Stack())}
	log.Error("internal error", "in", who, "error", p.Value, "stack", p.Stack)
	*err = p
}

// Do does something, and returns the PanicError that it ended in, or nil. It is Into for the body of a goroutine.
func Do(log *slog.Logger, who string, do func()) (err error) {
	defer Into(&err, log, who)
	do()
	return nil
}
