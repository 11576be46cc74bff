package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// heldName is the file that says that a replica was stopped by a person or a program while a manager looked after it, and
// by whom. As long as it is there, managers leave the replica stopped; whoever starts it removes the file.
const heldName = "held.json"

func (f replicaFiles) heldPath() string { return filepath.Join(f.Dir(), heldName) }

// hold says that the replica is to stay stopped. The first word stands.
func (f replicaFiles) hold() error {
	if f.held() {
		return nil
	}
	host, _ := os.Hostname()
	data, err := json.Marshal(lockNote{Process: proc.Identify(os.Getpid()), Host: host, Since: time.Now().UTC().Truncate(time.Second)})
	if err == nil {
		err = f.Create()
	}
	if err == nil {
		err = atomicfile.Write(f.heldPath(), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot keep that it was stopped: %w", err)
	}
	return nil
}

// unhold says that the replica may run.
func (f replicaFiles) unhold() error {
	err := atomicfile.Remove(f.heldPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot forget that it was stopped: %w", err)
	}
	return nil
}

func (f replicaFiles) held() bool { return exists(f.heldPath()) }

// heldBy says who has stopped it, for people.
func (f replicaFiles) heldBy() string {
	if n, ok := readLockNote(f.heldPath()); ok {
		return fmt.Sprintf("pid %d (%s)", n.Process.PID, n.Since.Local().Format(time.DateTime))
	}
	return "another command"
}

// beingStopped reports whether a living program is at a stop of the replica.
func (f replicaFiles) beingStopped() bool {
	if !exists(f.StopLock()) {
		return false
	}
	lock, err := state.TakeLock(f.StopLock(), 250*time.Millisecond) // a program between fork and exec holds a copy for a moment
	if err == nil {
		lock.Release()
	}
	return errors.Is(err, state.ErrHeld)
}

// hold keeps that somebody has stopped the replica, for the next supervisor.
func (r *replica) hold() {
	if err := r.files.hold(); err != nil {
		r.tell.logger.Warn(err.Error(), "replica", r.name)
	}
}

// unhold forgets that somebody has stopped the replica.
func (r *replica) unhold() {
	if err := r.files.unhold(); err != nil {
		r.tell.logger.Warn(err.Error(), "replica", r.name)
	}
}

// errStopFinished says that a stop that another program had begun is over.
var errStopFinished = errors.New("the stop by another program is over")

// finishStop does what is left of a stop whose program has died.
func finishStop(p *EngineProvisioner) error {
	err := p.Stop(context.Background())
	if err == nil || errors.Is(err, ErrKilled) || errors.Is(err, ErrDrainAborted) && !errors.Is(err, ErrUnkillable) {
		return errStopFinished
	}
	return err
}

// awaitStop waits as long as another command stops the replica's engine, which may drain it for minutes. If that command
// dies over it, its stop is finished. The error is errStopFinished when the replica was to be kept stopped.
func (r *replica) awaitStop(ctx context.Context, p *EngineProvisioner) error {
	if !r.files.beingStopped() {
		return nil
	}
	p.note("another command is stopping its engine; the start waits for that")
	for r.files.beingStopped() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	switch rest, found := adopt(ctx, r.files, r.tell); {
	case rest == nil:
	case found.Result == RecoveredStopped:
		if err := finishStop(rest); !errors.Is(err, errStopFinished) {
			return err
		}
	default:
		rest.Release() // somebody has started it: the start tells
	}
	if r.files.held() {
		return errStopFinished
	}
	return nil
}

// afterStop decides what follows when another program's stop is over: the replica stays stopped where that was said under a
// manager, and is started where it was said to nobody.
func (r *replica) afterStop(p *EngineProvisioner) {
	if !p.Status().State.Final() { // it was not started
		_ = p.Stop(context.Background())
	}
	r.ending = nil
	if r.files.held() {
		r.stoppedElsewhere()
	}
}
