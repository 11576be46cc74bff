package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
)

func TestExitCode(t *testing.T) {
	t.Parallel()
	failure := func(c engine.Cause) provisioner.Failure { return provisioner.Failure{Cause: c} }
	notReady := func(c engine.Cause) error { return &provisioner.NotReadyError{Failure: failure(c)} }
	start := func(c engine.Cause) error {
		return &provisioner.StartError{Failure: failure(c), Err: errors.New("x")}
	}
	exited := func(c engine.Cause, ready bool) error {
		return &provisioner.ExitError{Failure: failure(c), Ready: ready}
	}
	tests := []struct {
		err  error
		want int
		kind string
	}{
		{nil, 0, "other"},
		{errors.New("any"), 1, "other"},
		{start(engine.CauseModelMissing), 1, "start"},
		{start(engine.CauseLibMissing), 1, "start"},
		{&usageError{err: errors.New("x")}, 2, "usage"},
		{&provisioner.ConfigError{}, 2, "config"},
		{fmt.Errorf("wrapped: %w", &provisioner.ConfigError{}), 2, "config"},
		{&provisioner.GPUError{Err: errors.New("x")}, 3, "gpu"},
		{exited(engine.CauseOOMGPU, false), 3, "exit"},
		{exited(engine.CauseDriver, false), 3, "exit"},
		{exited(engine.CauseOOMGPU, true), 5, "exit"},
		{notReady(engine.CauseUnknown), 4, "not_ready"},
		{notReady(engine.CauseCannotAnswer), 4, "not_ready"},
		{exited(engine.CauseModelCorrupt, false), 5, "exit"},
		{exited(engine.CausePortInUse, false), 6, "exit"},
		{notReady(engine.CausePortInUse), 6, "not_ready"},
		{start(engine.CausePortInUse), 6, "start"},
		{&provisioner.StartError{Err: fmt.Errorf("x: %w", provisioner.ErrBusy)}, 6, "start"},
		{&interruptedError{syscall.SIGHUP}, 129, "interrupted"},
		{&interruptedError{syscall.SIGINT}, 130, "interrupted"},
		{&interruptedError{syscall.SIGTERM}, 143, "interrupted"},
		{&toldError{exited(engine.CauseUnknown, true)}, 5, "exit"},
		{&replicaError{"chat/r0", &provisioner.GPUError{Err: errors.New("x")}}, 3, "gpu"},
		{&toldError{&fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}}, 0, "other"},
		{&fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}, 1, "other"},
		{&fs.PathError{Op: "write", Path: "/run/socket", Err: syscall.EPIPE}, 1, "other"},
		{errors.Join(&toldError{notReady(engine.CauseUnknown)}, nil), 4, "not_ready"},
	}
	for _, tt := range tests {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("exitCode(%v) = %d, want %d", tt.err, got, tt.want)
		}
		if got := errorKind(tt.err); got != tt.kind {
			t.Errorf("errorKind(%v) = %q, want %q", tt.err, got, tt.kind)
		}
	}
}
