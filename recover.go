package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// Recovered is what Recover found of one replica that was not ended properly.
type Recovered struct {
	Pool    string          `json:"pool"`
	Replica string          `json:"replica"`
	Result  report.Recovery `json:"result"`
	Reason  string          `json:"reason,omitempty"` // why it was stopped or left, for people
	PID     int             `json:"pid,omitempty"`    // of an adopted engine
	Took    time.Duration   `json:"-"`                // encoded in seconds, as that of an Event
	Err     error           `json:"-"`                // with RecoveredUnknown; encoded as its text
	// Launch is that of an adopted engine, or of one whose stop was to be finished; nil else.
	Launch *EngineProvisioner `json:"-"`
}

// ID returns the replica's name.
func (f Recovered) ID() ReplicaID { return ReplicaID{f.Pool, f.Replica} }

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
	manager, err := Manage(state)
	if err != nil {
		return nil, nil, err
	}
	defer manager.Release()
	found, err := manager.Recover(ctx, nil, opts...)
	if err != nil {
		return nil, found, err
	}
	var adopted []*EngineProvisioner
	for _, f := range found {
		if f.Launch != nil && f.Result == report.RecoveredAdopted {
			adopted = append(adopted, f.Launch)
		}
	}
	if err := finish(ctx, found); err != nil {
		for _, p := range adopted {
			p.Release()
		}
		return nil, found, err
	}
	return adopted, found, nil
}

// finish stops what has to be stopped. The end of ctx ends the wait alone.
func finish(ctx context.Context, found []Recovered) error {
	var all sync.WaitGroup
	for i := range found {
		f := &found[i]
		if f.Launch != nil && f.Result != report.RecoveredAdopted {
			all.Go(func() { f.stop(ctx) })
		}
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// stop stops the launch of what was found.
func (f *Recovered) stop(ctx context.Context) {
	begin := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- f.Launch.Stop(context.WithoutCancel(ctx)) }()
	select {
	case err := <-stopped:
		f.Took += time.Since(begin)
		if err != nil && !errors.Is(err, ErrKilled) {
			f.Result, f.Reason, f.Err = report.RecoveredUnknown, "", err
		}
	case <-ctx.Done():
		f.Result, f.Reason, f.Err = report.RecoveredUnknown, "", context.Cause(ctx)
	}
}

// recoverEach finds out what is left of replicas, which are named like their files, for who has the manager's lock.
func recoverEach(ctx context.Context, dir string, stems []string, opts options) ([]Recovered, error) {
	found := make([]Recovered, len(stems))
	turns := make(chan struct{}, recoveryTurns)
	var all sync.WaitGroup
	for i, stem := range stems {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			found[i] = adoptAlone(ctx, state.In(dir, stem), opts)
		})
	}
	all.Wait()
	found = slices.DeleteFunc(found, func(r Recovered) bool { return r.Result == "" })
	if ctx.Err() == nil {
		return found, nil
	}
	for i, f := range found {
		if f.Launch != nil {
			f.Launch.Release()
			found[i].Launch = nil
		}
	}
	return found, context.Cause(ctx)
}

// adopt deals with one replica, and waits for no engine. The result is empty when there is nothing to deal with.
func adopt(caller context.Context, files state.Files, opts options) Recovered {
	if caller.Err() != nil {
		return Recovered{}
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(caller, recoveryBudget)
	defer cancel()
	rec, err := readRecord(files)
	if errors.Is(err, fs.ErrNotExist) || err == nil && rec.State.Final() {
		return endOrphans(files, err == nil)
	}
	found := Recovered{Pool: rec.Pool, Replica: rec.Replica, Result: report.RecoveredUnknown, Err: err}
	if err != nil {
		found.Replica = files.Stem
		return found
	}
	p, err := attach(ctx, files, rec, opts)
	switch {
	case errors.Is(err, ErrNotRunning):
		found.Result = report.RecoveredGone
	case err != nil:
		found.Err = err
	default:
		found.Launch = p
		unread := p.takeOver()
		go p.watch(p.run)
		found.Result, found.Reason = p.fate()
		switch found.Result {
		case report.RecoveredLeft:
			p.Release()
			found.Launch = nil
		case report.RecoveredAdopted:
			found.PID = p.Status().PID
			if unread != nil {
				p.note("it goes on, but not all of its secrets can be read: " + unread.Error())
			}
			_, _ = p.run.inst.Observe() // for the case that it ends by itself
			go p.keep()
		}
	}
	found.Took = time.Since(begin)
	return found
}

// fate is what becomes of a launch that was found alive, and why, where it is not adopted. Nobody asks it for its health: a
// busy engine leaves that unanswered for minutes, and a suspended one for ever. What there is to be doubted is judged later,
// with more time.
func (p *EngineProvisioner) fate() (report.Recovery, string) {
	r := p.run
	stopping := r.rec.Desired == desiredStopped
	switch {
	case stopping && r.files.BeingStopped():
		return report.RecoveredLeft, "another command is stopping it"
	case r.inst.Exited():
		return report.RecoveredStopped, "its main process is gone"
	case stopping:
		return report.RecoveredStopped, "its stop was interrupted"
	}
	if _, ready := p.Handoff(); ready {
		if err := r.checkListener(); err != nil {
			return report.RecoveredStopped, err.Error()
		}
	}
	return report.RecoveredAdopted, ""
}

// takeOver makes an attached launch, which is not watched yet, one that can be waited for. The error is about what could not
// be read, without which the engine can be stopped all the same.
func (p *EngineProvisioner) takeOver() error {
	p.engine, _ = p.opts.engine(p.run.rec.Engine) // one that is not known here can be stopped, but not waited for
	return p.run.readSecrets()
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
				keys, err = readKeys(ref, ProvisionConfig{Dir: r.rec.Dir})
				failed = errors.Join(failed, err)
			}
			found, r.key = append(found, keys...), keys.First()
			continue
		}
		s, err := readRef(ref, ProvisionConfig{Dir: r.rec.Dir})
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		found = append(found, s)
	}
	var reader procfs.Reader
	environment, _ := reader.Environ(r.inst.PID()) // of another user, or a container, it cannot be read
	found = append(found, secret.InEnvironment(strings.Split(string(environment), "\x00"))...)
	r.redact = secret.NewRedactor(found...)
	return failed
}
