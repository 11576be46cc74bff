package provisioner

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Numbers come back: a dead engine's may be a thread's by now, of which no process can be held.
func TestPidIsNowAThread(t *testing.T) {
	t.Parallel()
	thread := someThread(t)
	if _, err := proc.Hold(thread); !errors.Is(err, proc.ErrGone) {
		t.Errorf("hold: %v", err)
	}
	cfg := fakeConfig(t, enginetest.Behavior{})
	rec := testRecord(t)
	rec.Process = proc.ID{PID: os.Getpid()}
	if held, err := proc.Hold(os.Getpid()); err != nil {
		t.Fatal(err)
	} else {
		rec.Process = held.ID
		held.Close()
	}
	rec.Process.PID = thread
	files := state.In(cfg.StateDir, "pool-r0")
	if err := errors.Join(files.Create(), writeRecord(files, rec)); err != nil {
		t.Fatal(err)
	}
	if _, err := Attach(cfg.StateDir, poolR0); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Attach: %v", err)
	}
	if err := writeRecord(files, rec); err != nil { // as if nobody had put it away
		t.Fatal(err)
	}
	ready(t, cfg)
}

// someThread is the number of a thread that does not lead its process, and lives until the test ends.
func someThread(t *testing.T) int {
	tid, end := make(chan int), make(chan struct{})
	t.Cleanup(func() { close(end) })
	for range 2 { // one of them may have the first thread
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if n := unix.Gettid(); n != os.Getpid() {
				select {
				case tid <- n:
				case <-end:
				}
			}
			<-end
		}()
	}
	return <-tid
}
