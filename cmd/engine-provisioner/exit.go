package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/spf13/cobra"
)

// The exit statuses. An interruption is 128 and the signal's number, as shells have it.
const (
	exitFailed   = 1
	exitUsage    = 2 // or configuration
	exitGPU      = 3
	exitNotReady = 4
	exitExited   = 5
	exitBusy     = 6
)

// usageError says that the command line cannot be understood.
type usageError struct {
	err  error
	help string // the command that shows what is possible; "" when err says it
}

// notBoth is the error of two flags that exclude each other.
func notBoth(cmd *cobra.Command, a, b string) error {
	if cmd.Flags().Changed(a) && cmd.Flags().Changed(b) {
		return &usageError{err: fmt.Errorf("--%s and --%s exclude each other; leave out one of them", a, b)}
	}
	return nil
}

func (e *usageError) Error() string {
	switch text := e.err.Error(); {
	case e.help == "":
		return text
	case strings.HasSuffix(text, "?"):
		return text + " See " + e.help
	default:
		return text + "; see " + e.help
	}
}
func (e *usageError) Unwrap() error { return e.err }

// interruptedError says that a signal came before the work was done.
type interruptedError struct{ signal syscall.Signal }

func (e *interruptedError) Error() string {
	name := e.signal.String()
	switch e.signal {
	case syscall.SIGHUP:
		name = "SIGHUP"
	case syscall.SIGINT:
		name = "SIGINT"
	case syscall.SIGTERM:
		name = "SIGTERM"
	}
	return "interrupted by " + name
}

// replicaError says which replica an error is about.
type replicaError struct {
	replica string // pool/replica
	err     error
}

func (e *replicaError) Error() string { return e.replica + ": " + e.err.Error() }
func (e *replicaError) Unwrap() error { return e.err }

// about names the replica where the library's error does not: a lack of GPUs is also told by functions that know no
// replica.
func about(replica string, err error) error {
	var gpu *provisioner.GPUError
	if errors.As(err, &gpu) {
		return &replicaError{replica, err}
	}
	return err
}

// readerGone reports whether output ended because its reader has seen enough, as in "| head".
func readerGone(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path) && path.Path == os.Stdout.Name() && errors.Is(err, syscall.EPIPE)
}

// toldError is an error that the user has seen already; it only decides the exit status.
type toldError struct{ err error }

func (e *toldError) Error() string { return e.err.Error() }
func (e *toldError) Unwrap() error { return e.err }

// exitCode is the exit status that tells scripts what err is about. The order matters: a NotReadyError may wrap what
// another error is about.
func exitCode(err error) int {
	var (
		interrupted *interruptedError
		usage       *usageError
		config      *provisioner.ConfigError
		gpu         *provisioner.GPUError
		exited      *provisioner.ExitError
		notReady    *provisioner.NotReadyError
	)
	failure := failureOf(err)
	switch {
	case err == nil, readerGone(err):
		return 0
	case errors.As(err, &interrupted):
		return 128 + int(interrupted.signal)
	case errors.As(err, &usage), errors.As(err, &config):
		return exitUsage
	case errors.As(err, &exited) && exited.Ready:
		return exitExited // it had enough GPU and its port once, so what it died of is not what this start lacks
	case errors.As(err, &gpu), failure.Cause == engine.CauseDriver, failure.Cause == engine.CauseOOMGPU,
		errors.Is(err, provisioner.ErrNoMemory):
		return exitGPU
	case failure.Cause == engine.CauseBadAddress, failure.Cause == engine.CausePortForbidden, failure.Cause == engine.CauseUnauthorized:
		return exitUsage
	case errors.Is(err, provisioner.ErrBusy), errors.Is(err, hold.ErrHeld), failure.Cause == engine.CausePortInUse:
		return exitBusy
	case errors.As(err, &exited):
		return exitExited
	case errors.As(err, &notReady), errors.Is(err, errNotReady):
		return exitNotReady
	}
	return exitFailed
}

// errorKind names for programs what err is about.
func errorKind(err error) string {
	var (
		interrupted *interruptedError
		usage       *usageError
		config      *provisioner.ConfigError
		gpu         *provisioner.GPUError
		start       *provisioner.StartError
		exited      *provisioner.ExitError
		notReady    *provisioner.NotReadyError
	)
	switch {
	case errors.As(err, &interrupted):
		return "interrupted"
	case errors.As(err, &usage):
		return "usage"
	case errors.As(err, &config):
		return "config"
	case errors.As(err, &gpu):
		return "gpu"
	case errors.As(err, &start):
		return "start"
	case errors.As(err, &exited):
		return "exit"
	case errors.As(err, &notReady), errors.Is(err, errNotReady):
		return "not_ready"
	}
	return "other"
}

// failureOf is what the library's errors have in common; the zero value when err is none of them.
func failureOf(err error) provisioner.Failure {
	if failure, ok := errors.AsType[*provisioner.Failure](err); ok {
		return *failure
	}
	return provisioner.Failure{}
}
