package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Recovery is what [Recover] did about a replica.
type Recovery string

// The outcomes of a recovery.
const (
	RecoveredAdopted Recovery = "adopted" // the engine runs on, under this provisioner
	RecoveredStopped Recovery = "stopped" // it was ended: its stop was interrupted, only workers were left, or it has lost its port
	RecoveredLeft    Recovery = "left"    // another program is stopping it, and is left to that
	RecoveredGone    Recovery = "gone"    // it had died; what it left was put away
	RecoveredUnknown Recovery = "unknown" // it could not be dealt with; see Err
)

// Recovered is what Recover found of one replica that was not ended properly.
type Recovered struct {
	Pool    string        `json:"pool"`
	Replica string        `json:"replica"`
	Result  Recovery      `json:"result"`
	Reason  string        `json:"reason,omitempty"` // why it was stopped or left, for people
	PID     int           `json:"pid,omitempty"`    // of an adopted engine
	Took    time.Duration `json:"-"`                // encoded in seconds, as that of an Event
	Err     error         `json:"-"`                // with RecoveredUnknown; encoded as its text
}

// MarshalJSON adds the time in seconds, and the error's text.
func (f Recovered) MarshalJSON() ([]byte, error) {
	type plain Recovered
	return json.Marshal(struct {
		plain
		Took  float64 `json:"took"`
		Error string  `json:"error,omitempty"`
	}{plain(f), f.Took.Round(time.Microsecond).Seconds(), told(f.Err)})
}

const (
	// recoveryBudget bounds what it may take to find out what became of one replica, from its turn on: a container's runtime
	// can hang. No engine is ended because it is over.
	recoveryBudget = 10 * time.Second
	// recoveryTurns is how many replicas are looked at at once.
	recoveryTurns = 32
)

// Recover puts in order what an earlier provisioner left in the state directory ("" means .runtime) when it crashed.
//
// Every engine is adopted that lives, is the process that was recorded, and has not lost its port to another. It is not asked
// for its health, which takes milliseconds, and so one is adopted, too, that is too busy to answer, suspended, or hangs;
// what becomes of it is for whoever watches it from then on. Of an engine that loads, WaitReady carries on; it has at least as
// long as a load may be silent, since it may have come to its end unseen. Stops that were interrupted are finished, with the
// drain and the grace of the replica, which is waited for; one that another program is at is left to it. What is left of an
// engine whose main process is gone is ended, engines whose record is gone are killed, and what the dead left is removed.
//
// When ctx ends first, all other engines are left as they are, stops that are being finished go on without the caller, and
// the error is ctx's cause.
//
// The adopted launches are returned with one Recovered for each replica that was not ended properly. It returns
// ErrLocked when another manager is at work in the directory.
func Recover(ctx context.Context, stateDir string, opts ...Option) ([]*EngineProvisioner, []Recovered, error) {
	state, err := state.Dir(stateDir)
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	lock, err := becomeManager(state)
	if err != nil {
		return nil, nil, err
	}
	defer lock.Release()
	left, err := recoverAll(ctx, state, newOptions(opts))
	if err != nil {
		return nil, left.found, err
	}
	if err := left.finish(ctx); err != nil {
		left.release()
		return nil, left.found, err
	}
	for _, p := range left.adopted {
		if _, ready := p.readyNow(); ready {
			go p.keepHandoff()
		}
	}
	return slices.Collect(maps.Values(left.adopted)), left.found, nil
}

// leftovers are what an earlier manager left in a state directory. The launches are by the names of their files.
type leftovers struct {
	adopted map[string]*EngineProvisioner
	ending  map[string]*EngineProvisioner // those that are told as stopped, and still have to be
	found   []Recovered
}

// release lets go of the adopted launches.
func (l *leftovers) release() {
	for _, p := range l.adopted {
		p.Release()
	}
}

// finish stops what has to be stopped. The end of ctx ends the wait alone.
func (l *leftovers) finish(ctx context.Context) error {
	var all sync.WaitGroup
	for i := range l.found {
		f := &l.found[i]
		if p := l.ending[f.Pool+"-"+f.Replica]; p != nil {
			all.Go(func() { f.stop(ctx, p) })
		}
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// stop stops the launch of what was found.
func (f *Recovered) stop(ctx context.Context, p *EngineProvisioner) {
	begin := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- p.Stop(context.WithoutCancel(ctx)) }()
	select {
	case err := <-stopped:
		f.Took += time.Since(begin)
		if err != nil && !errors.Is(err, ErrKilled) {
			f.Result, f.Reason, f.Err = RecoveredUnknown, "", err
		}
	case <-ctx.Done():
		f.Result, f.Reason, f.Err = RecoveredUnknown, "", context.Cause(ctx)
	}
}

// recoverAll finds out what is left in a state directory, for who has the manager's lock.
func recoverAll(ctx context.Context, dir string, opts options) (leftovers, error) {
	stems, err := state.List(dir, state.RecordName)
	if err != nil {
		return leftovers{}, err
	}
	more, err := state.Unrecorded(dir)
	if err != nil {
		return leftovers{}, err
	}
	return recoverEach(ctx, dir, slices.Compact(slices.Sorted(slices.Values(append(stems, more...)))), opts)
}

// recoverEach is recoverAll for some replicas, which are named like their files.
func recoverEach(ctx context.Context, dir string, stems []string, opts options) (leftovers, error) {
	found := make([]Recovered, len(stems))
	launches := make([]*EngineProvisioner, len(stems))
	turns := make(chan struct{}, recoveryTurns)
	var all sync.WaitGroup
	for i, stem := range stems {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			launches[i], found[i] = adoptAlone(ctx, state.In(dir, stem), opts)
		})
	}
	all.Wait()
	left := leftovers{adopted: map[string]*EngineProvisioner{}, ending: map[string]*EngineProvisioner{}}
	for i, p := range launches {
		switch {
		case p == nil:
		case ctx.Err() != nil:
			p.Release()
		case found[i].Result == RecoveredAdopted:
			left.adopted[stems[i]] = p
		default:
			left.ending[stems[i]] = p
		}
	}
	left.found = slices.DeleteFunc(found, func(r Recovered) bool { return r.Result == "" })
	if ctx.Err() != nil {
		return leftovers{found: left.found}, context.Cause(ctx)
	}
	return left, nil
}

// event tells of a recovery.
func (f Recovered) event() Event {
	e := Event{
		Time: time.Now().UTC(), Pool: f.Pool, Replica: f.Replica, Kind: EventRecovery, Recovery: f.Result, PID: f.PID, Message: string(f.Result),
		Took: f.Took.Round(time.Microsecond).Seconds(),
	}
	switch {
	case f.Err != nil:
		e.Message += ": " + f.Err.Error()
	case f.Reason != "":
		e.Message += ": " + f.Reason
	}
	return e
}

// adopt deals with one replica, and waits for no engine: the launch that it returns is adopted or, by the result, to be
// stopped. The result is empty when there is nothing to deal with.
func adopt(caller context.Context, files state.Files, opts options) (*EngineProvisioner, Recovered) {
	if caller.Err() != nil {
		return nil, Recovered{}
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(caller, recoveryBudget)
	defer cancel()
	rec, err := readRecord(files)
	if errors.Is(err, fs.ErrNotExist) || err == nil && rec.State.Final() {
		return nil, endOrphans(files, err == nil)
	}
	found := Recovered{Pool: rec.Pool, Replica: rec.Replica, Result: RecoveredUnknown, Err: err}
	if err != nil {
		found.Replica = files.Stem
		return nil, found
	}
	p, err := attach(ctx, files, rec, opts)
	switch {
	case errors.Is(err, ErrNotRunning):
		found.Result = RecoveredGone
	case err != nil:
		found.Err = err
	default:
		unread := p.takeOver()
		go p.watch(p.run)
		found.Result, found.Reason = p.fate()
		switch found.Result {
		case RecoveredLeft:
			p.Release()
			p = nil
		case RecoveredAdopted:
			found.PID = p.Status().PID
			if unread != nil {
				p.note("it goes on, but not all of its secrets can be read: " + unread.Error())
			}
			_, _ = p.run.inst.Observe() // for the case that it ends by itself
		}
	}
	found.Took = time.Since(begin)
	return p, found
}

// fate is what becomes of a launch that was found alive, and why, where it is not adopted. Nobody asks it for its health: a
// busy engine leaves that unanswered for minutes, and a suspended one for ever. What there is to be doubted is judged later,
// with more time.
func (p *EngineProvisioner) fate() (Recovery, string) {
	r := p.run
	stopping := r.rec.Desired == desiredStopped
	switch {
	case stopping && r.files.BeingStopped():
		return RecoveredLeft, "another command is stopping it"
	case r.inst.Exited():
		return RecoveredStopped, "its main process is gone"
	case stopping:
		return RecoveredStopped, "its stop was interrupted"
	}
	if _, ready := p.readyNow(); ready {
		if err := r.checkListener(); err != nil {
			return RecoveredStopped, err.Error()
		}
	}
	return RecoveredAdopted, ""
}

// takeOver makes an attached launch, which is not watched yet, one that can be waited for. The error is about what could not
// be read, without which the engine can be stopped all the same.
func (p *EngineProvisioner) takeOver() error {
	p.engine, _ = p.opts.engine(p.run.rec.Engine) // one that is not known here can be stopped, but not waited for
	return p.run.readSecrets()
}

// standing is what an event tells of an adopted launch: its state, its id, and its handoff once it is ready.
func (p *EngineProvisioner) standing() (State, string, *Handoff) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != StateReady {
		return p.state, p.run.rec.LaunchID, nil
	}
	h := p.handoff
	return p.state, p.run.rec.LaunchID, &h
}

// readSecrets looks up again what the record only refers to. What the engine itself was given for a key stands in its
// environment, whatever has become of the file or variable since.
func (r *run) readSecrets() error {
	var found []secret.Text
	var failed error
	for _, ref := range r.rec.Launch.Secrets {
		if r.rec.APIKey != nil && ref == *r.rec.APIKey {
			keys, known := r.givenKeys()
			if !known {
				var err error
				keys, err = ref.readKeys(ProvisionConfig{Dir: r.rec.Dir})
				failed = errors.Join(failed, err)
			}
			found, r.key = append(found, keys...), keys.First()
			continue
		}
		s, err := ref.read(ProvisionConfig{Dir: r.rec.Dir})
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		found = append(found, s)
	}
	r.redact = secret.NewRedactor(found...)
	return failed
}
