package provisioner

import (
	"context"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// What a mistake in this package, or in an Engine of somebody else's, ends: the replica that it is about. Beside these two,
// package caught is where the work on one replica begins: foresee, prepare, plan, start, becomeReady, and the goroutines of
// a launch and of a replica.

// keepWatch looks after a ready engine until ctx or the launch ends. A mistake ends neither the engine, which serves, nor
// the watch: it is told, and the watch goes on after a pause.
func (p *EngineProvisioner) keepWatch(ctx context.Context, pause time.Duration, watch func()) {
	for {
		err := caught.Do(p.opts.logger, p.cfg.Name(), watch)
		if err == nil {
			return
		}
		p.note("the watch over the engine failed, and goes on: " + err.Error())
		select {
		case <-ctx.Done():
			return
		case <-p.done:
			return
		case <-time.After(max(pause, time.Millisecond)):
		}
	}
}

// adoptAlone is adopt, of which a mistake says that nothing is known of this one launch.
func adoptAlone(ctx context.Context, files state.Files, opts options) (found Recovered) {
	err := caught.Do(opts.logger, files.Stem, func() { found = adopt(ctx, files, opts) })
	if err != nil {
		return Recovered{Replica: files.Stem, Result: RecoveredUnknown, Err: err}
	}
	return found
}
