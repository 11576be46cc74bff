package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// panicAt makes each of the signals a panic: the stacks of all goroutines on stderr, and the end that a panic has.
//
// What Go does by itself at these signals is less safe: it walks the stacks inside the signal's handler, and when that
// fails, the kernel ends the program with SIGSEGV, since no signal can be handled there. The race detector with cgo makes
// it fail wherever the signal meets the detector's own code (Go 1.26: "unsafe.Slice: len out of range" in the dump).
func panicAt(fatal ...os.Signal) {
	sent := make(chan os.Signal, 1)
	signal.Notify(sent, fatal...)
	go func() { panic(fmt.Sprintf("told to end by signal: %s", <-sent)) }()
}

// signals are the user's wishes to end.
type signals struct {
	hurried context.Context // done at the second signal
	stop    func()          // ends the watch
}

// watchSignals derives a context that ends at the first signal, with an *interruptedError as its cause.
func watchSignals(ctx context.Context) (context.Context, *signals) {
	asked, ask := context.WithCancelCause(ctx)
	hurried, hurry := context.WithCancel(context.WithoutCancel(ctx))
	caught := make(chan os.Signal, 2)
	signal.Notify(caught, syscall.SIGINT, syscall.SIGTERM)
	// Without this, writing to a pipe whose reader is gone ("| head") would end the program and leave the engines.
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGPIPE)
	// A closed terminal must not leave engines behind that nobody watches, but nohup means to outlive it. What is caught is
	// not passed on to engines, as what is ignored would be.
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(dropped, syscall.SIGHUP)
	} else {
		signal.Notify(caught, syscall.SIGHUP)
	}

	done := make(chan struct{})
	go func() {
		for n := 1; ; n++ {
			select {
			case <-done:
				return
			case s := <-caught:
				if n > 1 {
					hurry()
					continue
				}
				sig, _ := s.(syscall.Signal)
				ask(&interruptedError{sig})
			}
		}
	}()
	return asked, &signals{hurried: hurried, stop: func() {
		signal.Stop(caught)
		signal.Stop(dropped)
		close(done)
		ask(nil)
		hurry()
	}}
}

// heed stops something, and has it killed when a second signal comes.
func (s *signals) heed(stop, kill func(context.Context) error) error {
	unhurry := context.AfterFunc(s.hurried, func() { _ = kill(context.Background()) }) // what came of it, stop tells
	defer unhurry()
	return stop(context.Background())
}

// interruption is the signal that ended ctx; nil when none did.
func interruption(ctx context.Context) error {
	var interrupted *interruptedError
	if errors.As(context.Cause(ctx), &interrupted) {
		return interrupted
	}
	return ctx.Err()
}
