//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/report"
)

func memoryReturns(ctx context.Context, t *trial) (string, error) {
	before, err := t.memory()
	if err != nil {
		return "", err
	}
	mib := before.Free >> 20 * 7 / 10
	h, err := t.holding(ctx, mib)
	if err != nil {
		return "", err
	}
	began := time.Now()
	h.kill()
	for {
		now, err := t.memory()
		if err != nil {
			return "", err
		}
		if after := time.Since(began); now.Free+now.Total/20 >= before.Free {
			back, err := killedBeside(ctx, t)
			return fmt.Sprintf("%d MiB after %s; %s", mib, after.Round(time.Millisecond), back), err
		} else if after > 30*time.Second {
			return "", fmt.Errorf("%d MiB of %d MiB are free after %s", now.Free>>20, before.Free>>20, after.Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func estimateHolds(ctx context.Context, t *trial) (string, error) {
	var seen []string
	var broken error
	for _, flags := range []string{"-c 512", "-c 2048", "-c 2048 -ctk q8_0", "-c 2048 -ub 128", "-c 2048 -ub 1024 -b 1024"} {
		cfg := t.replica()
		cfg.Flags = strings.Fields(flags)
		plan, err := node.Plan(ctx, cfg, t.cache())
		if err != nil {
			return "", err
		}
		launch, err := t.start(ctx, cfg, ask(ctx))
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(plan.Memory, func(m report.MemoryNeed) bool { return m.GPU == t.gpu.uuid })
		if i < 0 {
			return "", fmt.Errorf("%s: nothing is estimated", flags)
		}
		seen = append(seen, fmt.Sprintf("%s: %d MiB, estimated %d", flags, launch.held>>20, plan.Memory[i].Need>>20))
		if launch.held > plan.Memory[i].Need {
			broken = errors.New("it takes more")
		}
	}
	if broken != nil {
		return strings.Join(seen, "; "), broken
	}
	balloon, err := fitsWhatFits(ctx, t)
	return strings.Join(append(seen, balloon), "; "), err
}

// fitsWhatFits has a neighbour leave a little less than the estimate, which "fit: require" must refuse, and a little more.
func fitsWhatFits(ctx context.Context, t *trial) (string, error) {
	before, err := t.memory()
	if err != nil {
		return "", err
	}
	h, err := t.holding(ctx, 64)
	if err != nil {
		return "", err
	}
	after, err := t.memory()
	h.kill()
	if err != nil {
		return "", err
	}
	own := before.Free - after.Free - 64<<20 // what a neighbour takes beside what it was asked for
	var seen []string
	for _, percent := range []uint64{95, 105} {
		cfg := t.replica()
		cfg.Fit = "require"
		plan, err := node.Plan(ctx, cfg, t.cache())
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(plan.Memory, func(m report.MemoryNeed) bool { return m.GPU == t.gpu.uuid })
		if i < 0 {
			return "", errors.New("nothing is estimated")
		}
		if h, err = t.holding(ctx, (before.Free-own-plan.Memory[i].Need*percent/100)>>20); err != nil {
			return "", err
		}
		now, err := t.memory()
		if err == nil {
			_, err = t.start(ctx, cfg)
		}
		h.kill()
		refused := errors.Is(err, provisioner.ErrNoMemory)
		seen = append(seen, fmt.Sprintf("with %d MiB free: %v", now.Free>>20, err))
		if refused != (percent < 100) || err != nil && !refused {
			return strings.Join(seen, "; "), fmt.Errorf("%d %% of the estimate were free", percent)
		}
	}
	return strings.Join(seen, "; "), nil
}

// killedBeside kills an engine while another one keeps its memory, and waits for what the next start would wait for.
func killedBeside(ctx context.Context, t *trial) (seen string, err error) {
	_, err = t.start(ctx, t.replica(), func(*provisioner.EngineProvisioner) error {
		_, killed := t.start(ctx, t.replica(), func(p *provisioner.EngineProvisioner) error {
			if err := syscall.Kill(p.Status().PID, syscall.SIGKILL); err != nil {
				return err
			}
			<-p.Done()
			began := time.Now()
			if err := p.AwaitGPUs(ctx); err != nil {
				return err
			}
			took := time.Since(began)
			seen = fmt.Sprintf("an engine's beside another after %s", took.Round(time.Millisecond))
			if took > 30*time.Second {
				return errors.New("that is more than 30 s")
			}
			return nil
		})
		return killed
	})
	return seen, err
}

func fullGPU(ctx context.Context, t *trial) (string, error) {
	memory, err := t.memory()
	if err != nil {
		return "", err
	}
	const left, tokens = 4096, "1000000" // MiB, and what takes 16 GiB of this model
	h, err := t.holding(ctx, memory.Free>>20-left)
	if err != nil {
		return "", err
	}
	defer h.kill()
	cfg := t.replica()
	cfg.Fit = "off" // which would tell before the start
	cfg.Flags = []string{"--ctx-size", tokens, "--n-gpu-layers", "999"}
	_, err = t.start(ctx, cfg)
	var exit *provisioner.ExitError
	var notReady *provisioner.NotReadyError
	switch {
	case err == nil:
		return "", errors.New("it became ready")
	case errors.As(err, &exit) && exit.Cause == engine.CauseOOMGPU, errors.As(err, &notReady) && notReady.Cause == engine.CauseOOMGPU:
		return err.Error(), nil
	}
	return "", fmt.Errorf("it is told as %w", err)
}
