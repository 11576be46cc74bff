package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/wake"
	"github.com/llama-orch/engine-provisioner/report"
)

// Manager is this program's hold of a state directory, of which one program at a time is the manager: the one that recovers
// what others left there, and starts what has failed. Other programs go on to start, stop and look at launches. It holds until
// Release or the program's end. Its methods are safe for concurrent use.
type Manager struct {
	dir string

	mu   sync.Mutex
	lock *state.Lock
}

// Manage makes this program the manager of a state directory ("" means .runtime), which is made where it is missing. The
// error is a *LockedError when another one does not let go of it within 2 seconds.
func Manage(stateDir string) (*Manager, error) {
	dir, err := state.Dir(stateDir)
	if err == nil {
		err = state.Create(dir)
	}
	if err != nil {
		return nil, err
	}
	l, holder, err := state.TakeManager(dir)
	if errors.Is(err, state.ErrHeld) {
		return nil, &LockedError{StateDir: dir, PID: holder.Process.PID, Host: holder.Host}
	}
	if err != nil {
		return nil, err
	}
	return &Manager{dir: dir, lock: l}, nil
}

// StateDir returns the absolute path of the state directory.
func (m *Manager) StateDir() string { return m.dir }

// Release gives the state directory back.
func (m *Manager) Release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lock.Release()
}

// Keep makes this program the manager again where somebody has removed the lock's file, as with the whole directory; again
// says that it was so. Until then no other program becomes the manager. It is called about once a second, since another
// one may get in that cannot look at this program's open files.
func (m *Manager) Keep() (again bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := state.ManagerLock(m.dir)
	if m.lock.At(path) {
		return false, nil
	}
	if err := state.Create(m.dir); err != nil {
		return true, err
	}
	lock, err := state.TakeLock(path, 250*time.Millisecond) // another manager may be finding out that it is too late
	if errors.Is(err, state.ErrHeld) {
		n, _ := state.ReadNote(path)
		return true, fmt.Errorf("two managers: %s has taken %q after somebody removed its lock; stop one of them", n, m.dir)
	}
	if err != nil {
		return true, err
	}
	lock.SignFor(m.dir)
	m.lock.Release()
	m.lock = lock
	return true, nil
}

// Recover puts in order what an earlier program left of these replicas, or of all, as the function [Recover] does, but for
// interrupted stops, which take as long as a drain: of those, Launch is still to be stopped. The adopted launches are this
// program's from now on; see [EngineProvisioner.Settle]. When ctx ends, all engines are left as they are, and the error is
// ctx's cause.
func (m *Manager) Recover(ctx context.Context, replicas []ReplicaID, opts ...Option) ([]Recovered, error) {
	stems := make([]string, len(replicas))
	for i, id := range replicas {
		stems[i] = id.stem()
	}
	if replicas == nil {
		recorded, err := state.List(m.dir, state.RecordName)
		if err != nil {
			return nil, err
		}
		more, err := state.Unrecorded(m.dir)
		if err != nil {
			return nil, err
		}
		stems = slices.Compact(slices.Sorted(slices.Values(append(recorded, more...))))
	}
	return recoverEach(ctx, m.dir, stems, newOptions(opts))
}

// keepPeriod is the time between two looks at the files of a launch.
const keepPeriod = time.Second

// keep looks after the files of a launch until its end: what somebody has removed is written again, and a stop that another
// program began and died over is finished. As long as nothing is missing, a look is three lstat.
func (p *EngineProvisioner) keep() {
	go p.share()
	timer := time.NewTimer(wake.Until(time.Now(), keepPeriod))
	defer timer.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-timer.C:
			timer.Reset(wake.Until(time.Now(), keepPeriod))
		}
		_ = caught.Do(p.opts.logger, p.run.rec.name(), p.look)
	}
}

// look is one look.
func (p *EngineProvisioner) look() {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	if !p.Running() {
		return
	}
	record, err := os.Lstat(p.run.files.Record())
	if p.halfStopped(record) {
		p.note("another command was stopping it and died; its stop is finished")
		_ = p.Stop(context.Background()) // what came of it stands in Err
		return
	}
	p.restore(err)
	p.republish()
	p.rekey()
}

// rekey keeps the handoff from naming a key that the engine does not know, when somebody has changed the file. One goroutine at
// a time calls it.
func (p *EngineProvisioner) rekey() {
	if !p.Running() || p.run.rec.APIKey == nil || p.run.rec.APIKey.FromFile == "" {
		return
	}
	h, ready := p.Handoff()
	if !ready {
		return
	}
	r := p.run
	file := ProvisionConfig{Dir: r.rec.Dir}.resolve(r.rec.APIKey.FromFile)
	info, err := os.Stat(file)
	if err != nil || p.keyFile != nil && sameFileVersion(info, p.keyFile) {
		return
	}
	auth := r.auth()
	if (auth == nil) == (h.Auth == nil) {
		p.keyFile = info
		return
	}
	if !p.publishing.TryLock() { // the next look will do
		return
	}
	defer p.publishing.Unlock()
	h.Auth = auth
	if gone, err := r.rewrite(h, p.admitted()); gone || err != nil {
		return
	}
	p.keyFile = info
	p.written, _ = os.Lstat(r.files.Handoff())
	message := fmt.Sprintf("the key in %q is the engine's again, and its handoff names it", file)
	if auth == nil {
		message = fmt.Sprintf(`the key in %q is not the one that the engine was started with, so its handoff names none; `+
			`"engine-provisioner reload" starts the engine with the new one`, file)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handoff = h
	p.opts.logger.Warn(message, "replica", p.cfg.Name())
	p.emit(Event{Kind: EventNote, Message: message, Handoff: &h})
}

// halfStopped reports whether somebody has written that the engine is to be gone, and nobody is at it. It reads the record
// only when that has changed; nil is none.
func (p *EngineProvisioner) halfStopped(record fs.FileInfo) bool {
	if record == nil || p.looked != nil && os.SameFile(record, p.looked) && record.ModTime().Equal(p.looked.ModTime()) {
		return false
	}
	return p.stopWasLeft(record)
}

// stopWasLeft is halfStopped of a record that has changed. Apart from that, which is called each second: a record is large, and so
// was the stack of who looks at one.
func (p *EngineProvisioner) stopWasLeft(info fs.FileInfo) bool {
	r := p.run
	if !r.stoppedElsewhere() {
		p.looked = info
		return false
	}
	lock, err := state.TryLock(r.files.StopLock())
	if err != nil {
		return false // it goes on, or nobody can tell: the lock may be another user's
	}
	defer lock.Release()
	// Only now: a stop that came to its end has said so before it gave the lock back, also when this program has not yet
	// seen the engine's end.
	rec, err := readRecord(r.files)
	return err != nil || !rec.State.Final()
}

// restore writes the record of a launch that runs again when somebody has removed it: without it nobody else could stop the
// engine. missing is what was found when it was looked at.
func (p *EngineProvisioner) restore(missing error) {
	if !p.Running() || missing == nil {
		p.unrecorded = false
		return
	}
	r := p.run
	err := r.files.Create()
	if err == nil {
		// What is there is newer: a stop that has begun, say.
		rec := r.rec
		rec.Withdrawn = p.isWithdrawn()
		err = changeRecord(r.files, func(_ record, err error) (record, bool) { return rec, errors.Is(err, fs.ErrNotExist) })
	}
	if err == nil {
		err = r.files.WritePID(r.rec.Process.PID)
	}
	switch {
	case err == nil:
		p.note("somebody has removed its record; it is written again")
	case !p.unrecorded:
		p.note("cannot write the record again, which somebody has removed: " + err.Error())
	}
	p.unrecorded = err != nil
}

// republish writes the handoff of a ready launch again when its file is not the one that was written, and tells of it. One
// goroutine at a time calls it.
func (p *EngineProvisioner) republish() {
	h, ready := p.Handoff()
	if !ready || p.isWithdrawn() || !p.Running() {
		return
	}
	path := p.run.files.Handoff()
	info, err := os.Lstat(path)
	if err == nil && sameFileVersion(info, p.written) {
		return
	}
	if !p.publishing.TryLock() { // somebody is about to remove it, or the disk hangs
		return
	}
	defer p.publishing.Unlock()
	there, unread := ReadHandoff(path)
	switch {
	case unread == nil && sameText(there, h):
		p.written = info
		return
	case diagnosis.Transient(unread): // this program has too many files open, say: nobody can tell
		return
	}
	if !p.Running() || p.isWithdrawn() || p.run.inst.Exited() || p.run.stoppedElsewhere() {
		return
	}
	err = os.MkdirAll(p.run.files.Handoffs(), 0o700)
	gone := false
	if err == nil {
		gone, err = p.run.rewrite(h, p.admitted())
	}
	if err != nil {
		if !p.unwritten {
			p.note("cannot write the handoff again, which somebody has removed or changed: " + err.Error())
		}
		p.unwritten = true
		return
	}
	p.unwritten = false
	if gone {
		return
	}
	p.written, _ = os.Lstat(path)
	p.mu.Lock()
	defer p.mu.Unlock()
	message := "somebody has removed or changed its handoff; it is written again"
	p.opts.logger.Warn(message, "replica", p.run.rec.name())
	p.emit(Event{Kind: EventNote, Message: message, Handoff: &h})
}

// sameFileVersion reports whether a file is still the one that was seen, unwritten since.
func sameFileVersion(now, seen fs.FileInfo) bool {
	return seen != nil && os.SameFile(now, seen) && now.ModTime().Equal(seen.ModTime()) && now.Size() == seen.Size()
}

// sameText reports whether two values are the same in a file.
func sameText(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// What a mistake in this package, or in an Engine of somebody else's, ends: the replica that it is about. Beside these two,
// package caught is where the work on one replica begins: foresee, prepare, plan, start, becomeReady, and the goroutines of
// a launch and of a replica.

// keepWatch looks after a ready engine until ctx or the launch ends. A mistake ends neither the engine, which serves, nor
// the watch: it is told, and the watch goes on after a pause.
func (p *EngineProvisioner) keepWatch(ctx context.Context, pause time.Duration, watch func()) {
	for {
		err := caught.Do(p.opts.logger, p.cfg.Name(), watch)
		if err == nil {
			return
		}
		p.note("the watch over the engine failed, and goes on: " + err.Error())
		select {
		case <-ctx.Done():
			return
		case <-p.done:
			return
		case <-time.After(max(pause, time.Millisecond)):
		}
	}
}

// adoptAlone is adopt, of which a mistake says that nothing is known of this one launch.
func adoptAlone(ctx context.Context, files state.Files, opts options) (found Recovered) {
	err := caught.Do(opts.logger, files.Stem, func() { found = adopt(ctx, files, opts) })
	if err != nil {
		return Recovered{Replica: files.Stem, Result: report.RecoveredUnknown, Err: err}
	}
	return found
}
