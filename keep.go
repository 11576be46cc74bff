package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/wake"
)

// keepPeriod is the time between two looks at the files of a launch.
const keepPeriod = time.Second

// keep looks after the files of a launch until its end: what somebody has removed is written again, and a stop that another
// program began and died over is finished. As long as nothing is missing, a look is four lstat.
func (p *EngineProvisioner) keep() {
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
	if p.halfStopped() {
		p.note("another command was stopping it and died; its stop is finished")
		_ = p.Stop(context.Background()) // what came of it stands in Err
		return
	}
	p.restore()
	p.republish()
	p.rekey()
}

// rekey keeps the handoff from naming a key that the engine does not know, when somebody has changed the file. One goroutine at
// a time calls it.
func (p *EngineProvisioner) rekey() {
	h, ready := p.Handoff()
	if !ready || !p.Running() || p.run.rec.APIKey == nil || p.run.rec.APIKey.FromFile == "" {
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
// only when that has changed.
func (p *EngineProvisioner) halfStopped() bool {
	if !p.Running() {
		return false
	}
	r := p.run
	info, err := os.Lstat(r.files.Record())
	if err != nil || p.looked != nil && os.SameFile(info, p.looked) && info.ModTime().Equal(p.looked.ModTime()) {
		return false
	}
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
// engine.
func (p *EngineProvisioner) restore() {
	if !p.Running() || access.Exists(p.run.files.Record()) {
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
	case transient(unread): // this program has too many files open, say: nobody can tell
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
