package provisioner

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// A server can outlive the main process: a script that starts it without "exec" dies of a SIGTERM that the server never gets.
// Then the server gets its own SIGTERM and the grace period, as the main process would have. Everybody else that
// outlives the main process is a worker, and is swept.

// succession is who goes on after the main process.
type succession struct {
	told bool   // it has got its SIGTERM, or has begun to end by itself; fixed by whoever ends it first
	name string // of the server that went on, for people; "" when there was none
}

// errGraceOver is why a wait ended that had the grace period.
var errGraceOver = errors.New("the grace period is over")

// grace is how long the launch has between SIGTERM and SIGKILL where its stop says nothing else.
func (r *run) grace(ready bool) time.Duration {
	if r.rec.LoadGrace > 0 && !ready {
		return time.Duration(r.rec.LoadGrace)
	}
	return time.Duration(r.rec.Grace)
}

// graceOf is a context that ends with the grace period, or with a kill.
func (p *EngineProvisioner) graceOf(allowed time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), allowed, errGraceOver)
	go func() {
		select {
		case <-p.hurry:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// outlast lets a server that has outlived the main process end until ctx does. It reports whether nothing is left but
// workers.
func (p *EngineProvisioner) outlast(ctx context.Context, r *run) bool {
	host, ok := r.inst.(*hostInstance) // a container ends with its main process
	if !ok {
		return true
	}
	server := host.Tree.Server(r.rec.Host, r.rec.Port)
	if server == nil {
		return true
	}
	defer server.Close()
	p.mu.Lock()
	told := r.after.told
	r.after = succession{true, fmt.Sprintf("%q (pid %d)", server.Name, server.PID)}
	name := r.after.name
	if p.state == StateReady || p.state == StateStarting { // it has not been asked to end
		p.transition(StateStopping, "")
	}
	p.mu.Unlock()
	// A main process that passes its SIGTERM on and does not wait has told the server already. That closes its port then, and
	// a second SIGTERM would have llama-server drop everything.
	for since, wait := time.Now(), time.Millisecond; !told && time.Since(since) < r.leaveTime; wait = min(2*wait, 20*time.Millisecond) {
		if server.Exited() || !server.ListensOn(r.rec.Host, r.rec.Port) {
			told = true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
	if !told {
		p.note(fmt.Sprintf("%s, which listens, has outlived the main process and gets SIGTERM, too; start it with \"exec\" in the script", name))
		if err := errors.Join(server.Signal(syscall.SIGTERM), server.Signal(syscall.SIGCONT)); err != nil {
			p.note("cannot signal the server: " + err.Error())
		}
	}
	return server.Wait(ctx) == nil
}

// settle is what comes between the end of the main process and the sweep of all others. The stop of this program or of another
// looks after a server that goes on; else it is ended here, as by a stop, since nobody watches it any more.
func (p *EngineProvisioner) settle(r *run) {
	p.mu.Lock()
	ready := p.state == StateReady || p.state == StateDraining
	p.mu.Unlock()
	if p.ownStop(r) || r.stoppedElsewhere() && p.awaitStop(r) {
		return
	}
	_, allowed := p.stopTimes(r, ready)
	ctx, cancel := p.graceOf(allowed)
	defer cancel()
	p.outlast(ctx, r)
}

// ownStop waits for what this program's stop does to the launch, if one has come so far.
func (p *EngineProvisioner) ownStop(r *run) bool {
	p.mu.Lock()
	over := r.stopping
	p.mu.Unlock()
	if over == nil {
		return false
	}
	<-over
	return true
}

// awaitStop waits for the stop that another program is at, for as long as it is and may be. It reports whether that, or this
// program's own stop, has seen to the rest: who holds the lock of a stop may be this program by now, which finishes that of a
// program that was killed.
func (p *EngineProvisioner) awaitStop(r *run) bool {
	limit := time.Duration(r.rec.Grace)
	if rec, err := readRecord(r.files); err == nil {
		limit = time.Duration(rec.Grace) // which that program may have changed
	}
	since := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if members, err := r.inst.Members(); err == nil && len(members) == 0 || p.ownStop(r) {
			return true
		}
		if !state.Locked(r.files.StopLock()) || time.Since(since) > limit+r.killTimeout {
			return false
		}
		time.Sleep(wait)
	}
}

// background says of an engine that exited while others of it went on that it must not.
func (e *ExitError) background(who string) {
	e.Evidence = who + " went on in the background"
	e.Cause, e.Retry = engine.CauseUnknown, e.Ready
	e.Advice = `an engine must stay in the foreground: run it with "exec" in a script, and without "&", nohup or an option such as --daemon`
}
