package provisioner

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// Numbers come back: a dead engine's may be a thread's by now, of which no process can be held.
func TestPidIsNowAThread(t *testing.T) {
	t.Parallel()
	thread := someThread(t)
	if _, err := hold(thread); !errors.Is(err, errGone) {
		t.Errorf("hold: %v", err)
	}
	cfg := fakeConfig(t, enginetest.Behavior{})
	rec := testRecord(t)
	rec.Process = identity{PID: os.Getpid()}
	if held, err := hold(os.Getpid()); err != nil {
		t.Fatal(err)
	} else {
		rec.Process = held.identity
		held.close()
	}
	rec.Process.PID = thread
	files := replicaFiles{state: cfg.StateDir, stem: "pool-r0"}
	if err := errors.Join(files.create(), files.writeRecord(rec)); err != nil {
		t.Fatal(err)
	}
	if _, err := Attach(cfg.StateDir, "pool", "r0"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Attach: %v", err)
	}
	if err := files.writeRecord(rec); err != nil { // as if nobody had put it away
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
