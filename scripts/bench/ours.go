//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/settings"
)

// ours is the library, as a manager uses it.
type ours struct {
	setup
	harness
	s *fleet.Fleet
}

// stable is after which time of being ready a failure is the first one.
const stable = 100 * time.Millisecond

func (o *ours) configs(n int) []provisioner.ProvisionConfig {
	all := make([]provisioner.ProvisionConfig, n)
	for i := range all {
		all[i] = provisioner.ProvisionConfig{
			PoolID: "pool", ReplicaID: fmt.Sprintf("r%d", i), StateDir: o.Dir, Dir: o.Dir, Engine: "llamacpp", Port: o.Port + i,
			Model: settings.Model{ID: o.Model}, GPU: engine.GPUNone,
			Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: o.Engine}},
			Restart:      settings.Restart{StableAfter: settings.Duration(stable)},
		}
	}
	return all
}

func (o *ours) start(ctx context.Context, n int) (err error) {
	if o.s, err = fleet.Open(ctx, fleet.Options{Launch: []provisioner.Option{provisioner.WithCacheDir(o.Cache)}}, o.configs(n)...); err != nil {
		return err
	}
	if err := o.s.WaitReady(ctx); err == nil {
		return nil
	}
	return o.allReady(ctx) // with many starts at once on few cores an engine can be too slow, and is started again
}

func (o *ours) allReady(ctx context.Context) error {
	notReady := func(s provisioner.Status) bool { return s.State != provisioner.StateReady }
	for slices.ContainsFunc(o.s.Status(), notReady) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all are ready: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (o *ours) recover(ctx context.Context, n int) error { return o.start(ctx, n) }

func (o *ours) stop(ctx context.Context) error { return o.s.Shutdown(ctx) }

func (o *ours) crash(ctx context.Context) (time.Duration, error) {
	time.Sleep(3 * stable)
	before := o.s.Status()[0].PID
	began := time.Now()
	if err := unix.Kill(before, unix.SIGKILL); err != nil {
		return 0, err
	}
	for {
		if pid := o.s.Status()[0].PID; pid != 0 && pid != before {
			break
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		time.Sleep(100 * time.Microsecond)
	}
	took := time.Since(began)
	return took, o.allReady(ctx)
}

// ready does not count what the engine takes for the token of the answer proof.
func (o *ours) ready(ctx context.Context, i int) (delay time.Duration, err error) {
	p, err := provisioner.New(o.configs(i + 1)[i], provisioner.WithCacheDir(o.Cache))
	if err != nil {
		return 0, err
	}
	if err := p.Start(ctx); err != nil {
		return 0, err
	}
	handoff, err := p.WaitReady(ctx)
	known := time.Now()
	if err != nil {
		return 0, err
	}
	err = o.try(func() {
		engine := enginetest.Inspect(o, handoff.URL)
		delay = known.Sub(engine.ReadyAt) - engine.FirstAnswer
	})
	if err != nil {
		return 0, err
	}
	return delay, p.Stop(ctx)
}
