//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// bare is a starter as anybody would write it in an hour. It proves nothing, and leaves nothing on disk.
type bare struct {
	setup
	harness
	engines []*exec.Cmd
}

// poll is the interval between two of its looks at an engine's health.
const poll = 10 * time.Millisecond

func (b *bare) url(i int) string { return "http://127.0.0.1:" + strconv.Itoa(b.Port+i) }

func (b *bare) run(i int) (*exec.Cmd, error) {
	cmd := exec.Command(b.Engine, "--model", b.Model, "--port", strconv.Itoa(b.Port+i), "--metrics")
	return cmd, cmd.Start()
}

func (b *bare) healthy(ctx context.Context, i int) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url(i)+"/health", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

func (b *bare) await(ctx context.Context, i int) error {
	for {
		err := b.healthy(ctx, i)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-time.After(poll):
		}
	}
}

// each does the same for n engines at once.
func each(n int, do func(int) error) error {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- do(i) }()
	}
	var all error
	for range n {
		all = errors.Join(all, <-errs)
	}
	return all
}

func (b *bare) start(ctx context.Context, n int) error {
	b.engines = make([]*exec.Cmd, n)
	return each(n, func(i int) (err error) {
		if b.engines[i], err = b.run(i); err != nil {
			return err
		}
		return b.await(ctx, i)
	})
}

func (b *bare) recover(ctx context.Context, n int) error {
	return each(n, func(i int) error { return b.healthy(ctx, i) })
}

func end(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	var status *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &status) {
		return err
	}
	return nil
}

func (b *bare) stop(context.Context) error {
	return each(len(b.engines), func(i int) error { return end(b.engines[i]) })
}

func (b *bare) crash(ctx context.Context) (took time.Duration, err error) {
	began := time.Now()
	if err := b.engines[0].Process.Kill(); err != nil {
		return 0, err
	}
	_ = b.engines[0].Wait() // it was killed
	if b.engines[0], err = b.run(0); err != nil {
		return 0, err
	}
	took = time.Since(began)
	return took, b.await(ctx, 0)
}

func (b *bare) ready(ctx context.Context, i int) (delay time.Duration, err error) {
	cmd, err := b.run(i)
	if err != nil {
		return 0, err
	}
	if err := b.await(ctx, i); err != nil {
		return 0, err
	}
	known := time.Now()
	if err := b.try(func() { delay = known.Sub(enginetest.Inspect(b, b.url(i)).ReadyAt) }); err != nil {
		return 0, err
	}
	return delay, end(cmd)
}
