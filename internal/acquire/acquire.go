// Package acquire brings the executables of engines onto this node: it builds them from source, installs them as Python
// packages, or downloads them, each into an entry of the cache. git, cmake, uv and pip run as trees of processes that end
// with their call.
//
// Whoever prepares a launch calls it. It starts no engine, reads no configuration file, and keeps nothing outside of the
// cache; what it tells on its way goes to its caller's functions.
package acquire

import (
	"context"
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/internal/binary"
	"github.com/llama-orch/engine-provisioner/internal/cache"
)

// Way is one by which an executable is had.
type Way interface {
	// Find gives its path where it is on this node, and otherwise says what Get would do, for people.
	Find(ctx context.Context) (path, pending string, err error)
	// Get brings it onto this node.
	Get(ctx context.Context, tell Listener) (path string, err error)
}

// Local is an executable that is on this node already.
type Local binary.Wanted

// Find finds it.
func (l Local) Find(context.Context) (path, pending string, err error) {
	path, err = binary.Wanted(l).Find()
	return path, "", err
}

// Get finds it.
func (l Local) Get(context.Context, Listener) (string, error) { return binary.Wanted(l).Find() }

// Error says that an engine could not be had, and where its log is.
type Error struct {
	What  string // such as "cannot build llama-server"
	Err   error
	Log   string // "" where nothing was built yet
	Retry bool   // trying again unchanged can help
}

func (e *Error) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Listener is told how it goes.
type Listener struct {
	Progress func(Progress)
	Note     func(message string) // what is worth knowing
}

// Progress is how far one step is.
type Progress struct {
	Step        Step
	What        string  // such as "llama-server"
	Done, Total int64   // bytes of a download; else parts, or percent of 100. Total is 0 where it is not known
	Rate        float64 // of a download: bytes a second of late
	Remaining   float64 // seconds; 0 where that cannot be told
	Waiting     bool    // another process does it, and this one waits for it
	Holder      string  // for people: whom it waits for
}

// Step says what is done.
type Step string

// The steps.
const (
	StepDownload  Step = "download"
	StepUnpack    Step = "unpack"
	StepFetch     Step = "fetch"
	StepConfigure Step = "configure"
	StepBuild     Step = "build"
	StepResolve   Step = "resolve"
	StepInstall   Step = "install"
)

// watcher tells that another process does the work.
func watcher(work Progress, tell Listener) cache.Watcher {
	work.Waiting = true
	return cache.Watcher{Note: tell.Note, Waiting: func(holder string) {
		work.Holder = holder
		tell.Progress(work)
	}}
}

// under is a path of a configuration, which is relative to its folder.
func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}
