package provisioner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/tool"
)

// hungDriver answers the first calls and then nothing more until it is let go.
type hungDriver struct {
	stubGPUs
	answers atomic.Int32  // how many calls are still answered
	asked   chan struct{} // gets a token for each call that hangs
	free    chan struct{}
}

func (d *hungDriver) GPUs() ([]gpu.Device, error) {
	if d.answers.Add(-1) < 0 {
		d.asked <- struct{}{}
		<-d.free
	}
	return d.stubGPUs.GPUs()
}

func newHungDriver(t *testing.T, answers int32) *hungDriver {
	d := &hungDriver{
		stubGPUs: stubGPUs{gpus: []engine.GPU{{UUID: "GPU-aaaa"}}}, asked: make(chan struct{}, 1), free: make(chan struct{}),
	}
	d.answers.Store(answers)
	t.Cleanup(func() { close(d.free) })
	return d
}

// A driver that hangs, as after an Xid error, holds up neither Start nor Stop.
func TestStartWithAHungDriver(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(p *EngineProvisioner, cancel func()) error{
		"the context ends": func(_ *EngineProvisioner, cancel func()) error { cancel(); return nil },
		"Stop":             func(p *EngineProvisioner, _ func()) error { return p.Stop(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			cfg.GPU = engine.GPURequired
			driver := newHungDriver(t, 0)
			p, _ := newLaunch(t, cfg, withGPUs(driver))
			ctx, cancel := context.WithCancel(bounded(t))
			failed := make(chan error, 1)
			go func() { failed <- p.Start(ctx) }()
			<-driver.asked
			if err := end(p, cancel); err != nil {
				t.Errorf("Stop: %v", err)
			}
			if err := await(t, failed); !errors.Is(err, context.Canceled) && !errors.Is(err, ErrStopped) {
				t.Errorf("Start: %v", err)
			}
		})
	}
}

func TestWaitReadyWithAHungDriver(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.GPU = engine.GPURequired
	driver := newHungDriver(t, 1)
	p, _ := started(t, cfg, withGPUs(driver))
	ctx, cancel := context.WithCancel(bounded(t))
	failed := make(chan error, 1)
	go func() { _, err := p.WaitReady(ctx); failed <- err }()
	<-driver.asked
	cancel()
	if err := await(t, failed); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitReady: %v", err)
	}
}

func await(t *testing.T, result <-chan error) error {
	t.Helper()
	select {
	case err := <-result:
		return err
	case <-bounded(t).Done():
		t.Fatal("it hangs")
		return nil
	}
}

// Opening a named pipe waits for a writer, which may never come.
func TestModelIsAPipe(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Model.ID = filepath.Join(cfg.Dir, "pipe")
	if err := syscall.Mkfifo(cfg.Model.ID, 0o600); err != nil {
		t.Fatal(err)
	}
	p, _ := newLaunch(t, cfg)
	failed := make(chan error, 1)
	go func() { failed <- p.Start(bounded(t)) }()
	wantText(t, await(t, failed), "cannot use the model", "is a pipe")
}

// What an executable starts while it is asked for its version ends with the question.
func TestAskLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, pidFile := filepath.Join(dir, "wrapper"), filepath.Join(dir, "pid")
	script := fmt.Sprintf("#!/bin/sh\nsetsid sleep 600 &\necho $! > '%[1]s.new'; mv '%[1]s.new' '%[1]s'; wait\n", pidFile)
	writeProgram(t, path, script)
	ctx, cancel := context.WithCancel(bounded(t))
	failed := make(chan error, 1)
	go func() { _, err := tool.Ask(ctx, path, []string{"--version"}, nil, nil); failed <- err }()
	var pid int
	eventually(t, "the child runs", func() bool {
		text, err := os.ReadFile(pidFile)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	cancel()
	if err := await(t, failed); !errors.Is(err, context.Canceled) {
		t.Errorf("ask: %v", err)
	}
	if alive(pid) {
		t.Error("the executable's child is alive")
	}
}
