package provisioner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/wake"
)

// keeper makes again what somebody removes from the state directory of a supervisor: the manager's lock, the folders, the
// records of what runs, and the handoffs of what is ready. It looks once a second, with the inbox; as long as nothing is
// missing, that is a handful of lstat for each replica.
type keeper struct {
	s    *Supervisor
	told string // the last trouble, which is told once
}

func (k *keeper) look() {
	s := k.s
	lost := !s.lock.At(state.ManagerLock(s.state))
	missing := lost || !access.Exists(filepath.Join(s.state, state.RequestsName))
	var err error
	for _, r := range s.all() {
		if missing || r.lost() {
			missing = true
			err = errors.Join(err, r.restore())
		}
	}
	if lost {
		err = errors.Join(err, s.takeLockAgain())
	}
	switch {
	case err != nil:
		k.trouble(err)
	case missing:
		k.told = ""
		message := fmt.Sprintf("somebody has removed files of the state directory %q; what is needed is made again", s.state)
		newOptions(s.opts).logger.Warn(message)
		newOptions(s.opts).onEvent(Event{Time: time.Now().UTC(), Kind: EventNote, Message: message})
	}
	for _, r := range s.all() {
		if p := r.present(); p != nil {
			p.republish()
		}
	}
}

// trouble tells an error that did not come up before.
func (k *keeper) trouble(err error) {
	if err.Error() == k.told {
		return
	}
	k.told = err.Error()
	newOptions(k.s.opts).onEvent(Event{Time: time.Now().UTC(), Kind: EventNote, Message: "cannot keep the state directory: " + k.told})
}

// takeLockAgain takes the manager's lock again after its file was removed. The old one is held until then: another manager
// looks for it, and does not get in.
func (s *Supervisor) takeLockAgain() error {
	lock, err := state.TakeLock(state.ManagerLock(s.state), 250*time.Millisecond) // another manager may be finding out that it is too late
	if errors.Is(err, state.ErrHeld) {
		n, _ := state.ReadNote(state.ManagerLock(s.state))
		return fmt.Errorf("two managers: %s has taken %q after somebody removed its lock; stop one of them", n, s.state)
	}
	if err != nil {
		return err
	}
	lock.SignFor(s.state)
	s.lock.Release()
	s.lock = lock
	return nil
}

// present is the launch of the replica; nil when there is none.
func (r *replica) present() *EngineProvisioner {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.launch
}

// lost reports whether a launch that runs has no record any more.
func (r *replica) lost() bool {
	p := r.present()
	return p != nil && p.unasked() && !access.Exists(r.files.Record())
}

// restore makes the folders of the replica again, and what stood in them.
func (r *replica) restore() error {
	if err := r.files.Create(); err != nil {
		return err
	}
	past := r.history()
	r.keep(past)
	if past.Phase == PhaseStopped {
		r.hold()
	}
	p := r.present()
	if p == nil || !p.unasked() {
		return nil
	}
	// What is there is newer: a stop that has begun, say.
	err := changeRecord(r.files, func(_ record, err error) (record, bool) { return p.run.rec, errors.Is(err, fs.ErrNotExist) })
	return errors.Join(err, r.files.WritePID(p.run.rec.Process.PID))
}

// keepHandoff keeps the handoff of a ready launch that no supervisor looks after, until its end.
func (p *EngineProvisioner) keepHandoff() {
	timer := time.NewTimer(wake.Until(time.Now(), requestPeriod))
	defer timer.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-timer.C:
			timer.Reset(wake.Until(time.Now(), requestPeriod))
		}
		p.republish()
	}
}

// republish writes the handoff of a ready launch again when its file is not the one that was written, and tells of it. One
// goroutine at a time calls it.
func (p *EngineProvisioner) republish() {
	h, ready := p.readyNow()
	if !ready || !p.unasked() {
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
	if !p.unasked() || p.run.inst.Exited() || p.run.stoppedElsewhere() {
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
	p.opts.logger.Warn(message, "replica", p.cfg.Name())
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

// becomeManager makes this program the manager of the state directory.
func becomeManager(dir string) (*state.Lock, error) {
	l, holder, err := state.TakeManager(dir)
	if errors.Is(err, state.ErrHeld) {
		return nil, &LockedError{StateDir: dir, PID: holder.Process.PID, Host: holder.Host}
	}
	return l, err
}
