package provisioner

import (
	"errors"
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

// Running reports whether the engine runs and nobody in this program has begun to stop it or to let it go.
func (p *EngineProvisioner) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run != nil && !p.asked && !p.state.Final()
}
