package provisioner

import (
	"context"
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
	k.file, k.told = openEngineLog(r), r.rec.Log
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := caught.Do(p.opts.logger, r.rec.name(), func() { k.run(ctx) }); err != nil {
			p.note("the log is not kept within its limits any more: " + err.Error())
		}
	}()
	return func() { cancel(); <-done }, func() { _ = k.file.Close() } // of nil it is an error
}

// openEngineLog opens the file that the engine writes to: through the descriptor of the engine's main process where the file
// was removed or renamed, and else by its name, which may be a new file's by now. It is nil when there is none.
func openEngineLog(r *run) *os.File {
	if file := procfs.OpenMoved(r.inst.PID(), r.rec.Log); file != nil {
		return file
	}
	file, _ := logcap.Open(r.rec.Log)
	return file
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
	k.gone.Store(k.file)
	if name := procfs.NameOf(k.file); name != k.told {
		k.tellMoved(name)
	}
	return open, nil
}

// tellMoved tells what has become of the log's name: each once, as logrotate renames a file and removes it later.
func (k *logKeeper) tellMoved(name string) {
	k.told = name
	if name == "" {
		k.note(fmt.Sprintf("the log %q was removed; what the engine writes goes on without a name, within \"logs.max_size\", and is lost when it ends", k.path))
		return
	}
	k.note(fmt.Sprintf("the log %q was renamed to %q; what the engine writes goes on there, within \"logs.max_size\"; "+
		"it keeps its size without logrotate", k.path, name))
}

// removed is the log, once somebody has removed or renamed it; nil before.
func (k *logKeeper) removed() *os.File {
	if k.gone == nil {
		return nil
	}
	return k.gone.Load()
}
