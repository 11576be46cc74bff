package provisioner

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/state"
)

// takeTurn waits for another program's stop of the launch, as a second Stop waits for the first: a second SIGTERM would
// end llama-server at once, with the requests that it was to finish. It waits no longer than a stop of its own would
// take. late is true when there is no drain left to be done by this one.
func (p *EngineProvisioner) takeTurn(r *run) (lock *state.Lock, late bool) {
	drain, grace := p.stopTimes(r, true)
	limit := time.NewTimer(drain + grace)
	defer limit.Stop()
	for {
		lock, err := state.TryLock(r.files.StopLock())
		if !errors.Is(err, state.ErrHeld) {
			return lock, false // without the lock, two may stop it at once, which ends it as well
		}
		select {
		case <-r.exited:
		case <-p.hurry:
		case <-limit.C:
		case <-time.After(20 * time.Millisecond):
			continue
		}
		return nil, true
	}
}

// beginStop writes down that the engine is to be gone, and removes the handoff. It reports whether a drain comes first.
func (p *EngineProvisioner) beginStop(r *run, late bool) (drains bool) {
	rec, err := readRecord(r.files) // another program's drain may be over
	late = late || err == nil && rec.LaunchID == r.rec.LaunchID && rec.Desired == desiredStopped && rec.State != StateDraining
	next := StateStopping
	p.mu.Lock()
	asked := !late && !closed(p.hurry)
	drains, early := asked && p.drains(), asked && p.mayServe()
	p.mu.Unlock()
	if early {
		p.mu.Lock()
		p.early = true
		p.mu.Unlock()
		p.recordStop(r, StateDraining) // a manager that reads it gives up its own questions
		drains = p.serves(r)
	}
	if drains {
		next = StateDraining
	}
	// The record first, then the handoff. Whoever finds no handoff must know why, also when this program dies in between;
	// and an engine that its own provisioner is just finding to be ready keeps none: that looks at the record again.
	p.recordStop(r, next)
	if p.byHand && state.Managed(r.files.State) {
		if err := r.files.Hold(); err != nil {
			p.note(err.Error())
		}
	}
	p.unpublish()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.Final() { // it has ended meanwhile
		return false
	}
	if p.state != next {
		p.transition(next, "")
	}
	return next == StateDraining
}

// recordStop writes down how far a stop is, for whoever goes on with it when this program dies. If the engine has ended,
// its watcher writes the last record, which must stay.
func (p *EngineProvisioner) recordStop(r *run, at State) {
	if closed(r.exited) {
		return
	}
	p.mu.Lock()
	how, early, limits := p.how(), p.early, p.limits
	p.mu.Unlock()
	rec := r.rec
	if limits.Grace != nil { // for whoever waits for this stop
		rec.Grace, rec.LoadGrace = Duration(*limits.Grace), 0
	}
	rec.Desired, rec.State, rec.Stop = desiredStopped, at, &recordedStop{thisProgram(), how, early}
	if err := updateRecord(r.files, rec); err != nil {
		p.note("cannot record the stop: " + err.Error())
	}
}

// finishStops goes on with the stops that other programs began and died over.
func (b *inbox) finishStops() {
	for _, r := range b.s.all() {
		if p := r.halfStopped(); p != nil {
			b.work.Go(func() {
				p.note("another command was stopping it and died; its stop is finished")
				_ = p.Stop(context.Background()) // what came of it stands in Err, and the replica's run tells
			})
		}
	}
}

// halfStopped is the present launch when somebody has written that it is to be gone and nobody is at it; else nil. It
// reads the record only when that has changed.
func (r *replica) halfStopped() *EngineProvisioner {
	r.mu.Lock()
	p := r.launch
	r.mu.Unlock()
	if p == nil || !p.unasked() {
		return nil
	}
	info, err := os.Lstat(r.files.Record())
	if err != nil || r.looked != nil && os.SameFile(info, r.looked) && info.ModTime().Equal(r.looked.ModTime()) {
		return nil
	}
	if !p.run.stoppedElsewhere() {
		r.looked = info
		return nil
	}
	lock, err := state.TryLock(r.files.StopLock())
	if err != nil {
		return nil // it goes on, or nobody can tell: the lock may be another user's
	}
	defer lock.Release()
	// Only now: a stop that came to its end has said so before it gave the lock back, also when this program has not yet
	// seen the engine's end.
	if rec, err := readRecord(r.files); err == nil && rec.State.Final() {
		return nil
	}
	return p
}

// unasked reports whether the engine runs and nobody in this program has begun to end it.
func (p *EngineProvisioner) unasked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run != nil && !p.asked && !p.state.Final()
}
