package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/logcap"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// keepLogs begins to look after the launch's log, in a goroutine. The first returned function ends that, with a last look,
// after which its end can still be read until the second one is called.
func (p *EngineProvisioner) keepLogs(r *run) (leave, closeLog func()) {
	k := r.logs
	if k == nil { // attached to
		k = p.newLogKeeper(r)
	}
	k.path, k.gone = r.rec.Log, &r.nameless
	k.file = openEngineLog(r)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := caught.Do(p.opts.logger, r.rec.Pool+"/"+r.rec.Replica, func() { k.run(ctx) }); err != nil {
			p.note("the log is not kept within its limits any more: " + err.Error())
		}
	}()
	return func() { cancel(); <-done }, func() { _ = k.file.Close() } // of nil it is an error
}

// openEngineLog opens the file that the engine writes to: by its name, or, when that is gone, through the descriptor of
// the engine's main process. It is nil when there is none.
func openEngineLog(r *run) *os.File {
	file, err := logcap.Open(r.rec.Log)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return file
	}
	return procfs.OpenDeleted(r.inst.PID(), r.rec.Log)
}

// own is the log as it is now, by its name or without one.
func (k *logKeeper) own() (fs.FileInfo, error) {
	named, err := os.Lstat(k.path)
	if k.file == nil {
		return named, err
	}
	open, unknown := k.file.Stat()
	if unknown != nil || err == nil && os.SameFile(named, open) {
		return named, err
	}
	if k.gone.Swap(k.file) == nil {
		k.note(fmt.Sprintf("the log %q was removed; what the engine writes goes on without a name, within \"logs.max_size\", and is lost when it ends", k.path))
	}
	return open, nil
}

// removed is the log, once somebody has removed it; nil before.
func (k *logKeeper) removed() *os.File {
	if k.gone == nil {
		return nil
	}
	return k.gone.Load()
}
