package provisioner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/state"

	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/launch"
)

// Stop ends the engine and returns when its whole process tree is gone and its port is free. In order: the handoff is
// removed; a replica that was ready, or serves clients already, is drained (see settings.Drain); the engine's main process gets SIGTERM, once; after
// the grace period the tree gets SIGKILL; what outlives the main process for more than half a second, in whatever
// group or session, gets SIGKILL, too; everything is reaped, verified and put away.
//
// The end of ctx means that the caller waits no longer: the stop goes on, with its drain and grace, and the error wraps
// ctx's cause. See [EngineProvisioner.StopWith] for other limits, and [EngineProvisioner.Kill] for none. Stop returns nil
// when the engine is gone, ErrKilled when it had to be killed and nothing else is wrong, ErrDrainAborted when a fatal
// drain hook failed, ErrUnkillable when a process survived, and ErrReleased after Release. Stopping again returns the
// same, ErrUnkillable for as long as it is true; concurrent callers wait for the first. A launch that was not started
// cannot be started afterwards.
//
// While another program stops the engine, Stop waits for that, no longer than its own drain and grace, before it sends
// any signal.
func (p *EngineProvisioner) Stop(ctx context.Context) error { return p.StopWith(ctx, StopOptions{}) }

// stop is the Stop that was first, or what condemn has decided on.
func (p *EngineProvisioner) stop(r *run) error {
	turn, late := p.takeTurn(r)
	if turn != nil {
		defer turn.Release()
	}
	drains := p.beginStop(r, late)
	recorded := true
	if drains {
		began := time.Now()
		p.drain(r)
		if recorded = time.Since(began) > recordAfter; recorded {
			p.recordStop(r, StateStopping)
		}
	}
	return p.escalate(r, drains, recorded)
}

// recordAfter is how long a drain, and then the engine's end, may take until it is recorded that the drain is over: most idle
// engines have ended by then, and the last record says it all.
const recordAfter = 50 * time.Millisecond

// escalate is the way from asking to killing. drained says that the engine has served, recorded that it stands in the record
// that it is stopping.
func (p *EngineProvisioner) escalate(r *run, drained, recorded bool) error {
	over := make(chan struct{})
	p.mu.Lock()
	ready := !p.handoff.ReadyAt.IsZero() || r.rec.State == StateDraining || drained
	r.stopping = over
	p.mu.Unlock()
	// 1. See who belongs to the tree while all parents are alive.
	members, err := r.inst.Observe()
	if err != nil {
		p.note(err.Error())
	}
	r.workers.Store(len(members) > 1)
	p.opts.Hooks.At("before_term")
	// 2. SIGTERM to the leader, once: llama-server takes a second one as an order to exit at once, and workers are their
	// leader's to stop. A stopped process gets it only when it is continued.
	if !closed(r.exited) {
		if err := r.inst.Signal(syscall.SIGTERM); err != nil {
			p.note("cannot signal the engine: " + err.Error())
		}
	}
	p.opts.Hooks.At("after_term")
	// 3. The grace period, also for a server that outlives the leader.
	_, allowed := p.stopTimes(r, ready)
	asked := time.Now()
	grace, cancel := p.graceOf(allowed)
	defer cancel()
	if !recorded {
		select {
		case <-r.exited:
		case <-grace.Done():
		case <-time.After(recordAfter):
			p.recordStop(r, StateStopping)
		}
	}
	late := false
	select {
	case <-r.exited:
		late = !p.outlast(grace, r)
	case <-grace.Done():
		late = !closed(r.exited)
	}
	// 4. SIGKILL to whoever is left.
	if late {
		given := allowed.String()
		if !errors.Is(context.Cause(grace), errGraceOver) {
			given += fmt.Sprintf(" was cut to %s", time.Since(asked).Round(time.Millisecond))
		}
		p.mu.Lock()
		p.killed = given
		p.mu.Unlock()
		p.recordStop(r, StateStopping) // for a manager, which tells how it went
		if _, err := r.inst.Kill(); err != nil {
			p.note(err.Error())
		}
	}
	// 5. The watcher sweeps, reaps, verifies and puts away.
	close(over)
	return p.awaitDone(r)
}

// awaitDone waits for the end of a launch whose processes have got SIGKILL. When none is left, the watcher is only slow
// to put things away: 200 stops at once on two busy cores took it more than 11 s.
func (p *EngineProvisioner) awaitDone(r *run) error {
	for wait := r.killTimeout + time.Second; ; wait = time.Second {
		select {
		case <-p.done:
			return p.stopError()
		case <-time.After(wait):
		}
		names, err := r.survivors()
		if err != nil {
			names = err.Error()
		}
		if names != "" {
			p.stuckOnce.Do(func() { close(p.stuck) })
			return fmt.Errorf("cannot stop %s: %w: %s; its port and GPU memory must be taken as in use", p.cfg.Name(), ErrUnkillable, names)
		}
	}
}

func (p *EngineProvisioner) stopError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.drainErr == nil:
		return p.stopErr
	case errors.Is(p.stopErr, ErrKilled): // a remark: beside it the failure would be overlooked
		return p.drainErr
	}
	return errors.Join(p.drainErr, p.stopErr)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// survivors names the living processes of the launch; "" when there is none.
func (r *run) survivors() (string, error) {
	members, err := r.inst.Members()
	var names []string
	for _, m := range members {
		names = append(names, proc.Name(m.Name, m.PID, m.State))
	}
	slices.Sort(names)
	return strings.Join(names, ", "), err
}

// ending is how a launch ended.
type ending struct {
	exit    launch.Exit
	swept   int    // processes that outlived the leader
	foreign bool   // another command had asked for it
	port    string // who has the port now, though the tree is gone; "" when it is free
	rec     record // the last one
	err     error  // what could not be verified or put away; ErrUnkillable among it
}

// sweptText says how many processes have outlived the leader, for people.
func (e ending) sweptText() string {
	if e.swept == 1 {
		return "killed 1 process that has outlived the engine"
	}
	return fmt.Sprintf("killed %d processes that have outlived the engine", e.swept)
}

// defaultLeaveTime is how long the rest of a tree may take to end by itself after its leader. Python's resource tracker,
// which every vLLM has, takes 100 ms on two busy cores to unlink what the leader has left.
const defaultLeaveTime = 500 * time.Millisecond

// awaitLeaving waits for workers that end by themselves.
func (r *run) awaitLeaving() {
	for since, wait := time.Now(), time.Millisecond; time.Since(since) < r.leaveTime; wait = min(2*wait, 20*time.Millisecond) {
		if members, err := r.inst.Members(); err != nil || len(members) == 0 {
			return
		}
		time.Sleep(wait)
	}
}

// finish ends what is left of a launch whose leader has ended, reaps it, verifies that nothing is left, and puts the
// launch's files away. final is what the record shall say, unless nobody here asked and another command did.
func (r *run) finish(final State, asked bool) ending {
	end := ending{rec: r.rec}
	end.swept, end.err = r.sweep()
	// The lock tells of a process that /proc did not show in time.
	for since := time.Now(); end.err == nil && r.lockHeld() && time.Since(since) < time.Second; time.Sleep(5 * time.Millisecond) {
		var late int
		late, end.err = r.sweep()
		end.swept += late
	}
	// Only now is the leader reaped: until here its pid, and so its group and session, could not become a stranger's.
	end.exit = r.inst.Exit()
	if end.err != nil {
		return end // something lives on and may use all the rest
	}
	end.port = r.awaitPort()
	end.err = errors.Join(r.inst.Remove(), r.putAway(final, asked, &end))
	return end
}

// sweep kills all members of the tree until there is none, and returns how many there were.
func (r *run) sweep() (int, error) { return proc.Sweep(r.killTimeout, r.inst.Kill, r.survivors) }

// lockHeld reports whether a process of this launch holds the replica's lock.
func (r *run) lockHeld() bool {
	lock, err := r.files.Lock()
	if err == nil {
		lock.Release()
	}
	if !errors.Is(err, state.ErrHeld) {
		return false
	}
	rec, err := readRecord(r.files)
	return err == nil && rec.LaunchID == r.rec.LaunchID
}

// awaitPort returns "" when the port is free. With the tree gone, whoever has it is none of ours: then it returns who.
func (r *run) awaitPort() string {
	var problem string
	for range 20 { // a socket may take a moment longer than the process that held it
		if problem = port.Holder(r.rec.Host, r.rec.Port, ourEngine); problem == "" {
			return ""
		}
		time.Sleep(5 * time.Millisecond)
	}
	return problem
}

// besidePatience is how long another program that ends the same launch may hold its lock: a manager and a stop write the same record,
// with an fsync each, which took more than a second on a disk under load.
const besidePatience = 5 * time.Second

// putAway writes the final record, unless a later launch has taken over.
func (r *run) putAway(final State, asked bool, end *ending) error {
	lock, err := r.files.Lock()
	for since := time.Now(); errors.Is(err, state.ErrHeld); lock, err = r.files.Lock() {
		// The tree is empty, so whoever holds the lock is a later launch, or ends this one as well, or hides from /proc.
		rec, unread := readRecord(r.files)
		if unread != nil || rec.LaunchID != r.rec.LaunchID {
			return nil // a later launch tells
		}
		if time.Since(since) > besidePatience {
			return fmt.Errorf("an unseen process still holds %q; find it with lslocks or fuser", r.files.LockPath())
		}
	}
	if err != nil {
		return err
	}
	defer lock.Release()
	// Of a provisioner that was killed while it wrote. A launch that was adopted has no Start that clears them away.
	if err := r.files.ClearTorn(); err != nil {
		return err
	}
	var removePID error
	err = changeRecord(r.files, func(onDisk record, err error) (record, bool) {
		if err == nil && onDisk.LaunchID != r.rec.LaunchID {
			return record{}, false
		}
		if err == nil {
			end.rec = onDisk
		}
		end.foreign = !asked && end.rec.Desired == desiredStopped
		if onDisk.State.Final() && !end.exit.Known {
			return record{}, false // the provisioner whose child it was knows better how it ended
		}
		if end.foreign {
			final = StateStopped
		}
		if asked {
			end.rec.Desired = desiredStopped // it had ended before that could be written
		}
		end.rec.State, end.rec.EndedAt, end.rec.Exit = final, time.Now().UTC(), end.exit.String()
		if !end.exit.Known && r.inst.PID() == 0 && final == StateFailed {
			end.rec.Exit = diedUnwatched
		}
		removePID = r.files.RemovePID()
		return end.rec, true
	})
	return errors.Join(err, removePID)
}

// undo ends what a failed start began and holds the replica's lock for. A process that survives is told as
// ErrUnkillable; then the record goes on saying that something may be alive.
func (r *run) undo() error {
	_, err := r.inst.Kill()
	ctx, cancel := context.WithTimeoutCause(context.Background(), r.killTimeout, ErrUnkillable)
	defer cancel()
	if alive := r.inst.Wait(ctx); alive != nil {
		return fmt.Errorf("cannot end the failed start: %w", errors.Join(alive, err))
	}
	_, err = r.sweep()
	r.inst.Exit()
	if err != nil {
		return fmt.Errorf("cannot end the failed start: %w", err)
	}
	r.rec.State, r.rec.EndedAt = StateFailed, time.Now().UTC()
	err = errors.Join(r.inst.Remove(), writeRecord(r.files, r.rec), r.files.RemovePID())
	if err != nil {
		return fmt.Errorf("cannot clean up after the failed start: %w", err)
	}
	return nil
}
