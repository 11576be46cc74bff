package state

import (
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/llama-orch/engine-provisioner/internal/logcap"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// Open has the keeper look after the log of the engine whose main process is pid. Until the returned function is called, the
// log can be read although somebody has removed or renamed it: then it is in gone.
func (k *LogKeeper) Open(pid int, path string, gone *atomic.Pointer[os.File]) (closeLog func()) {
	k.path, k.gone, k.told = path, gone, path
	k.file = openEngineLog(pid, path)
	return func() { _ = k.file.Close() } // of nil it is an error
}

// openEngineLog opens the file that the engine writes to: through the descriptor of the engine's main process where the file
// was removed or renamed, and else by its name, which may be a new file's by now. It is nil when there is none.
func openEngineLog(pid int, path string) *os.File {
	if file := procfs.OpenMoved(pid, path); file != nil {
		return file
	}
	file, _ := logcap.Open(path)
	return file
}

// own is the log as it is now, by its name or without one.
func (k *LogKeeper) own() (fs.FileInfo, error) {
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
func (k *LogKeeper) tellMoved(name string) {
	k.told = name
	if name == "" {
		k.note(fmt.Sprintf("the log %q was removed; what the engine writes goes on without a name, within \"logs.max_size\", and is lost when it ends", k.path))
		return
	}
	k.note(fmt.Sprintf("the log %q was renamed to %q; what the engine writes goes on there, within \"logs.max_size\"; "+
		"it keeps its size without logrotate", k.path, name))
}

// removed is the log, once somebody has removed or renamed it; nil before.
func (k *LogKeeper) removed() *os.File {
	if k.gone == nil {
		return nil
	}
	return k.gone.Load()
}
