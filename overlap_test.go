package provisioner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/local"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/settings"
)

// A start that is under way has a record and no process yet. Attach, as "stop" calls it, must not take it for a dead
// launch: it would remove the folder that the engine is about to get, and kill the engine as a leftover.
func TestAttachDuringStart(t *testing.T) {
	t.Parallel()
	files := state.In(t.TempDir(), "pool-r0")
	rec := testRecord(t)
	rec.State, rec.TempDir = StatePreparing, filepath.Join(t.TempDir(), local.TempPrefix+rec.LaunchID[:12])
	if err := errors.Join(os.Mkdir(rec.TempDir, 0o700), files.Create(), writeRecord(files, rec)); err != nil {
		t.Fatal(err)
	}
	lock, err := files.Lock()
	if err != nil {
		t.Fatal(err)
	}
	_, err = Attach(files.State, poolR0)
	if !errors.Is(err, ErrBusy) || errors.Is(err, ErrNotRunning) {
		t.Errorf("Attach: %v", err)
	}
	if _, err := os.Stat(rec.TempDir); err != nil {
		t.Errorf("the folder of the start is gone: %v", err)
	}
	lock.Release() // its provisioner dies
	if _, err := Attach(files.State, poolR0); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Attach: %v", err)
	}
	if _, err := os.Stat(rec.TempDir); err == nil {
		t.Error("the folder of the dead start is left")
	}
}

// a-b/c and a/b-c have the same files, but are not the same replica.
func TestAttachToANamesake(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.PoolID, cfg.ReplicaID = "a-b", "c"
	p, _ := started(t, cfg)
	if other, err := Attach(cfg.StateDir, ReplicaID{Pool: "a", Replica: "b-c"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("Attach: %v", err)
		if err == nil {
			other.Release()
		}
	}
	if _, err := Attach(filepath.Join(cfg.StateDir, "sub"), ReplicaID{Pool: "../a-b", Replica: "c"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("Attach outside of the state directory: %v", err)
	}
	if !alive(p.Status().PID) {
		t.Error("the engine is gone")
	}
}

// An engine that dies while it is being let go has crashed; nobody has stopped it.
func TestDeathDuringRelease(t *testing.T) {
	t.Parallel()
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}))
	pid := p.Status().PID
	p.mu.Lock() // Release waits for it, and so does the watcher, which has seen the death
	released := make(chan struct{})
	go func() { defer close(released); p.Release() }()
	err := syscall.Kill(pid, syscall.SIGKILL)
	if err == nil {
		<-p.run.exited
	}
	p.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	<-released
	<-p.Done()
	var exit *ExitError
	if !errors.As(p.Err(), &exit) {
		t.Errorf("Err: %v", p.Err())
	}
	if rec, err := readRecord(p.run.files); err != nil || rec.State != StateFailed {
		t.Errorf("the record says %q (%v)", rec.State, err)
	}
}

// A second Stop cannot do more than the first about a process that survives SIGKILL, and must not wait for it.
func TestStopAgainAfterUnkillable(t *testing.T) {
	freezer := newFreezer(t)
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Stop.Grace = settings.Duration(50 * time.Millisecond)
	p, _ := ready(t, cfg)
	p.run.killTimeout = 100 * time.Millisecond
	freezer.freeze(t, p.Status().PID)
	later := make(chan error, 1)
	if err := p.Stop(bounded(t)); !errors.Is(err, ErrUnkillable) {
		t.Fatalf("Stop: %v", err)
	}
	go func() { later <- p.Stop(context.Background()) }()
	select {
	case err := <-later:
		if !errors.Is(err, ErrUnkillable) {
			t.Errorf("Stop again: %v", err)
		}
	case <-time.After(patience):
		t.Error("Stop again does not return")
	}
	freezer.thaw(t)
	awaitDone(t, p)
	nothingLeft(t, p)
}

// A stop that only takes long to put things away has killed everything, and must not say that something survived.
func TestSlowIsNotUnkillable(t *testing.T) {
	t.Parallel()
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{{Kind: enginetest.NewSession}}}))
	p.mu.Lock() // the watcher gets no further than to see the death
	err := syscall.Kill(p.run.rec.Process.PID, syscall.SIGKILL)
	<-p.run.exited
	_, swept := p.run.sweep()
	p.run.killTimeout = time.Millisecond - time.Second // awaitDone adds one
	waited := make(chan error, 1)
	go func() { waited <- p.awaitDone(p.run) }()
	select {
	case err := <-waited:
		t.Errorf("what is only slow: %v", err)
		waited <- nil
	case <-time.After(100 * time.Millisecond):
	}
	p.mu.Unlock()
	if err := errors.Join(err, swept, <-waited); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

// While another command stops the engine, its own provisioner must not call it ready.
func TestStoppedElsewhereIsNotReady(t *testing.T) {
	t.Parallel()
	p, j := started(t, fakeConfig(t, enginetest.Behavior{}))
	lock, err := state.TryLock(p.run.files.StopLock()) // of the other command; a stop that nobody is at would be finished here
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	rec := p.run.rec
	rec.Desired = desiredStopped // what the other command does first
	if err := updateRecord(p.run.files, rec); err != nil {
		t.Fatal(err)
	}
	var notReady *NotReadyError
	if _, err := p.WaitReady(bounded(t)); !errors.As(err, &notReady) || !errors.Is(err, ErrStopped) {
		t.Errorf("WaitReady: %v", err)
	}
	if _, err := ReadHandoff(p.run.files.Handoff()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a handoff: %v", err)
	}
	wantStates(t, j, StatePreparing, StateStarting)
}

// WaitReady ends with its context also when it waits for an engine's end to be put away.
func TestWaitReadyAfterDeathIsBounded(t *testing.T) {
	t.Parallel()
	p := newProvisioner(fakeConfig(t, enginetest.Behavior{}), newOptions(nil))
	p.state = StateStopping // and done is never closed
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() { _, err := p.WaitReady(ctx); failed <- err }()
	cancel()
	if err := await(t, failed); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitReady: %v", err)
	}
}
