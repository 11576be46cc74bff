package provisioner

import (
	"context"

	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

func (p *EngineProvisioner) newLogKeeper(r *run) *state.LogKeeper {
	limits := r.rec.Logs.withDefaults()
	return state.NewLogKeeper(r.files, r.rec.Pool, state.LogLimits{
		Size: int64(limits.MaxSize), PoolSize: int64(limits.MaxPoolSize), Shown: func(bytes int64) string { return Size(bytes).String() },
	}, p.opts.space, p.note)
}

// failedLaunch is the number of the last launch that failed, when the one of r is over; 0 for none.
func (r record) failedLaunch() int64 {
	if r.LaunchID == "" || r.State == StateStopped {
		return r.LastFailed
	}
	return r.Generation // one that died while nobody watched has failed, too
}

// keepLogs begins to look after the launch's log, in a goroutine. The first returned function ends that, with a last look,
// after which its end can still be read until the second one is called.
func (p *EngineProvisioner) keepLogs(r *run) (leave, closeLog func()) {
	k := r.logs
	if k == nil { // attached to
		k = p.newLogKeeper(r)
	}
	closeLog = k.Open(r.inst.PID(), r.rec.Log, &r.nameless)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := caught.Do(p.opts.logger, r.rec.name(), func() { k.Run(ctx) }); err != nil {
			p.note("the log is not kept within its limits any more: " + err.Error())
		}
	}()
	return func() { cancel(); <-done }, closeLog
}
