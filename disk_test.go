package provisioner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// hangingStep is a disk that hangs at one step of a launch.
type hangingStep struct {
	reached chan struct{} // closed when the launch is there
	goOn    chan struct{} // to be closed
}

// hangAt makes a launch hang at its first step of that name.
func hangAt(t testing.TB, step string) (*hangingStep, Option) {
	h := &hangingStep{make(chan struct{}), make(chan struct{})}
	t.Cleanup(h.end)
	return h, func(o *options) {
		o.Hooks.Failpoint = func(name string) {
			if name == step && !closed(h.reached) {
				close(h.reached)
				<-h.goOn
			}
		}
	}
}

func (h *hangingStep) end() {
	if !closed(h.goOn) {
		close(h.goOn)
	}
}

// Whoever asks how a launch stands gets an answer, wherever the launch hangs on the disk.
func TestStatusDoesNotWaitForTheDisk(t *testing.T) {
	t.Parallel()
	for _, step := range failpoints {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			disk, hang := hangAt(t, step)
			p, _ := newLaunch(t, fakeConfig(t, enginetest.Behavior{}), hang)
			lived := make(chan struct{})
			go func() {
				defer close(lived)
				if err := p.Start(bounded(t)); err != nil {
					t.Error(err)
				}
				if _, err := p.WaitReady(bounded(t)); err != nil {
					t.Error(err)
				}
				if err := p.Stop(bounded(t)); err != nil {
					t.Error(err)
				}
			}()
			awaitClosed(t, "the way to "+step, disk.reached)
			returns(t, "Status at "+step, func() {
				if s := p.Status(); s.State.Final() || s.State == StateNew {
					t.Errorf("%+v", s)
				}
			})
			returns(t, "Err at "+step, func() {
				if err := p.Err(); err != nil {
					t.Error(err)
				}
			})
			disk.end()
			awaitClosed(t, "the life after "+step, lived)
			nothingLeft(t, p)
		})
	}
}

// A Stop that comes while the handoff is being written finds it: no file outlives the readiness that never was.
func TestStopWhileTheHandoffIsWritten(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"before_publish", "after_publish"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			disk, hang := hangAt(t, step)
			p, j := started(t, fakeConfig(t, enginetest.Behavior{}), hang)
			waited := make(chan error, 1)
			go func() {
				_, err := p.WaitReady(bounded(t))
				waited <- err
			}()
			awaitClosed(t, step, disk.reached)
			stopped := make(chan error, 1)
			go func() { stopped <- p.Stop(bounded(t)) }()
			<-p.life.Done()
			disk.end()
			if err := <-waited; !errors.Is(err, ErrStopped) {
				t.Errorf("WaitReady: %v", err)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			nothingLeft(t, p)
			wantStates(t, j, StatePreparing, StateStarting, StateStopping, StateStopped)
		})
	}
}

// So does the death of the engine.
func TestDeathWhileTheHandoffIsWritten(t *testing.T) {
	t.Parallel()
	disk, hang := hangAt(t, "after_publish")
	p, _ := started(t, fakeConfig(t, enginetest.Behavior{}), hang)
	waited := make(chan error, 1)
	go func() {
		_, err := p.WaitReady(bounded(t))
		waited <- err
	}()
	awaitClosed(t, "after_publish", disk.reached)
	if _, err := p.run.inst.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitClosed(t, "the engine's end", p.run.exited)
	disk.end()
	// Whoever has read the handoff took it for ready.
	if died, ok := errors.AsType[*ExitError](<-waited); !ok || !died.Ready {
		t.Errorf("%v, want an *ExitError after readiness", died)
	}
	awaitDone(t, p)
	nothingLeft(t, p)
}

// A launch that is let go while its handoff is being written leaves none: the next provisioner writes its own, and nobody
// removes that.
func TestReleaseWhileTheHandoffIsWritten(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	disk, hang := hangAt(t, "after_publish")
	p, _ := started(t, cfg, hang)
	waited := make(chan error, 1)
	go func() {
		_, err := p.WaitReady(bounded(t))
		waited <- err
	}()
	awaitClosed(t, "after_publish", disk.reached)
	released := make(chan struct{})
	go func() { defer close(released); p.Release() }()
	<-p.life.Done()
	if closed(p.done) {
		t.Error("let go while the handoff is written")
	}
	disk.end()
	awaitClosed(t, "Release", released)
	if _, err := os.Lstat(filepath.Join(cfg.StateDir, "engines", "pool-r0.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a handoff of an engine that is not ready: %v", err)
	}
	if err := <-waited; !errors.Is(err, ErrReleased) {
		t.Errorf("WaitReady: %v", err)
	}
	next, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, next)
}

// Of Stop and Release at once, one is first, and the other one waits for it: whatever holds them up in between.
func TestStopAndReleaseAtOnce(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"Stop", "Release"} {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			p, _ := ready(t, cfg)
			did := map[string]func(){
				"Stop":    func() { _ = p.Stop(context.Background()) },
				"Release": p.Release,
			}
			p.starting.Lock() // as a Start that comes too late does
			done := make(chan struct{}, 2)
			run := func(f func()) { go func() { f(); done <- struct{}{} }() }
			run(did[first])
			<-p.life.Done()
			for name, f := range did {
				if name != first {
					run(f)
				}
			}
			p.starting.Unlock()
			for range 2 {
				returns(t, "Stop or Release", func() { <-done })
			}
			if first == "Stop" {
				nothingLeft(t, p)
				return
			}
			if err := p.Err(); !errors.Is(err, ErrReleased) {
				t.Error(err)
			}
			next, err := Attach(cfg.StateDir, poolR0)
			if err != nil {
				t.Fatal(err)
			}
			if s := next.Status(); s.State != StateReady {
				t.Errorf("the engine is %s", s.State)
			}
			if err := next.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
			nothingLeft(t, next)
		})
	}
}

// A start that is let go ends with that word, and leaves nothing where no engine runs yet.
func TestReleaseOfAStart(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"before_start", "after_running_record"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			disk, hang := hangAt(t, step)
			p, _ := newLaunch(t, cfg, hang)
			begun := make(chan error, 1)
			go func() { begun <- p.Start(bounded(t)) }()
			awaitClosed(t, step, disk.reached)
			released := make(chan struct{})
			go func() { defer close(released); p.Release() }()
			<-p.life.Done()
			disk.end()
			err := <-begun
			awaitClosed(t, "Release", released)
			if !errors.Is(p.Err(), ErrReleased) {
				t.Errorf("Err: %v", p.Err())
			}
			next, attached := Attach(cfg.StateDir, poolR0)
			if err != nil { // it was called off in time
				if !errors.Is(err, ErrReleased) || !errors.Is(attached, ErrNotRunning) {
					t.Errorf("%v, and then %v", err, attached)
				}
				return
			}
			if attached != nil {
				t.Fatal(attached)
			}
			if err := next.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
			nothingLeft(t, next)
		})
	}
}
