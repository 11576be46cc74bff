package provisioner

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
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
	if _, err := Attach(cfg.StateDir, "pool", "r0"); !errors.Is(err, ErrNotRunning) {
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

// Whoever has a lock of a provisioner that is gone is ended by its mark alone, and only where nobody else has the lock.
func TestEndHoldersSparesStrangers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.lock")
	lock, err := state.TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	holder := func(env ...string) (*exec.Cmd, <-chan struct{}) {
		t.Helper()
		cmd := exec.Command("sleep", "600")
		cmd.Env, cmd.ExtraFiles = env, []*os.File{lock.File}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = cmd.Wait() }()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
		return cmd, ended
	}
	stranger, gone := holder()
	marked, _ := holder(proc.MarkEnv + "=" + proc.NewMark())
	lock.Release()
	if n, err := endHolders(path); n != 0 || err != nil || !alive(marked.Process.Pid) || !alive(stranger.Process.Pid) {
		t.Errorf("ended %d beside a stranger (%v)", n, err)
	}
	_ = stranger.Process.Kill()
	<-gone
	eventually(t, "the marked one is ended", func() bool { // another test's child may have a copy of the lock until its exec
		_, err := endHolders(path)
		return err == nil && !alive(marked.Process.Pid)
	})
}
