package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// Attach takes hold of a replica's engine that another provisioner has started, for Stop, Done and Status. It finds
// the engine by the record in the state directory ("" means .runtime) and makes sure that the process is the one that
// was recorded. When only workers of it are left, the launch is over: they are ended at once, and Done tells when.
//
// It returns ErrNotFound when there is no record; ErrNotRunning, after removing what the engine left, when the engine is
// gone; and ErrBusy when no process is seen but one holds the replica, such as a Start that is under way. What is not
// needed any more is stopped, or let go with Release. Only Linux can tell for sure that a process is still the one that
// was recorded; elsewhere Attach to a living engine returns errors.ErrUnsupported.
func Attach(stateDir, pool, replica string, opts ...Option) (*EngineProvisioner, error) {
	name := pool + "/" + replica
	if !idPattern.MatchString(pool) || !idPattern.MatchString(replica) {
		return nil, fmt.Errorf("cannot attach to %q: %w: no replica can have this name", name, ErrNotFound)
	}
	files, err := filesOf(stateDir, pool+"-"+replica)
	if err != nil {
		return nil, err
	}
	rec, err := files.readRecord()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: no record in %q", ErrNotFound, files.dir())
	case err == nil && rec.Pool != pool: // "a-b/c" and "a/b-c" have the same files
		err = fmt.Errorf("%w: %q is of %s/%s", ErrNotFound, files.record(), rec.Pool, rec.Replica)
	}
	var p *EngineProvisioner
	if err == nil {
		p, err = attach(context.Background(), files, rec, newOptions(opts))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot attach to %s: %w", name, err)
	}
	return p, nil
}

// attach takes hold of the engine of a record.
func attach(ctx context.Context, files replicaFiles, rec record, opts options) (*EngineProvisioner, error) {
	inst, err := opts.find(ctx, files, rec)
	if err != nil {
		return nil, err
	}
	r := &run{
		files: files, rec: rec, started: rec.StartedAt, exited: make(chan struct{}), inst: inst,
		killTimeout: defaultKillTimeout, leaveTime: defaultLeaveTime,
	}
	r.rec.refer(inst)
	if inst.Exited() {
		members, err := inst.Members()
		if err == nil && len(members) == 0 {
			err = r.clearAway()
		}
		if err != nil {
			return nil, err
		}
	}
	cfg := ProvisionConfig{
		PoolID: rec.Pool, ReplicaID: rec.Replica, Engine: rec.Engine, Host: rec.Host, Port: rec.Port, StateDir: files.state,
		Model: ModelConfig{ID: rec.Model}, Dir: rec.Dir, Drain: rec.Drain, APIKey: rec.APIKey,
	}
	p := newProvisioner(cfg.withDefaults(), opts)
	if d := p.opts.drain; d != nil {
		p.cfg.Drain.Timeout = new(Duration(*d))
	}
	if p.opts.grace > 0 {
		r.rec.Grace = Duration(p.opts.grace)
	}
	p.run, p.state, p.since, p.found = r, StateStarting, r.started, true
	if h, err := ReadHandoff(files.handoff()); err == nil && h.Process != nil && h.Process.LaunchID == rec.LaunchID {
		p.state, p.handoff, p.since = StateReady, h, h.ReadyAt
	} else if rec.State == StateDraining {
		p.state = StateDraining
	}
	go p.watch(r)
	return p, nil
}

// clearAway puts away what is left of a launch of which no process is seen, and returns ErrNotRunning.
func (r *run) clearAway() error {
	if r.rec.State.Final() {
		return ErrNotRunning
	}
	// A start that is under way has no process yet, and an engine in another container is not seen from here. Both hold
	// the lock, and what is theirs must stay.
	lock, err := r.files.lock()
	if errors.Is(err, errLocked) {
		return fmt.Errorf("%w: a start is under way, or a process that cannot be seen from here holds %q", ErrBusy, r.files.lockPath())
	}
	if err != nil {
		return err
	}
	names, err := r.survivors() // the start may have come to its end before the lock was asked for
	lock.release()
	if err != nil {
		return err
	}
	if names != "" {
		return fmt.Errorf("%w: it has just been started: %s; try again", ErrBusy, names)
	}
	if err := errors.Join(r.files.unpublish(r.rec.LaunchID), r.finish(StateFailed, false).err); err != nil {
		return fmt.Errorf("the engine is gone, but not what it left: %w", err)
	}
	return ErrNotRunning
}

// Recovery is what [Recover] did about a replica.
type Recovery string

// The outcomes of a recovery.
const (
	RecoveredAdopted Recovery = "adopted" // the engine runs on, under this provisioner
	RecoveredStopped Recovery = "stopped" // it was ended: its stop was interrupted, or it was not fit to go on
	RecoveredGone    Recovery = "gone"    // it had died; what it left was put away
	RecoveredUnknown Recovery = "unknown" // it could not be dealt with; see Err
)

// Recovered is what Recover found of one replica that was not ended properly.
type Recovered struct {
	Pool, Replica string
	Result        Recovery
	Reason        string // why it was stopped, for people
	PID           int    // of an adopted engine
	Took          time.Duration
	Err           error // with RecoveredUnknown
}

// recoveryBudget bounds what one replica's recovery may take, so that a hung engine does not hold up the others.
const recoveryBudget = 10 * time.Second

// Recover puts in order what an earlier provisioner left in the state directory ("" means .runtime) when it crashed.
// Engines that are ready and healthy are adopted, which takes milliseconds where a reload of the model takes minutes;
// engines that load are adopted, too, and WaitReady carries on with them. Stops that were interrupted are finished,
// engines that are not fit to go on are stopped, those whose record is gone are killed, and what the dead left is
// removed. All replicas at once, each within 10 seconds.
//
// When ctx ends first, all engines that are not stopped yet are left as they are, and the error is ctx's cause.
//
// The adopted launches are returned with one Recovered for each replica that was not ended properly. It returns
// ErrLocked when another manager is at work in the directory.
func Recover(ctx context.Context, stateDir string, opts ...Option) ([]*EngineProvisioner, []Recovered, error) {
	state, err := stateDirectory(stateDir)
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	lock, err := lockManager(state)
	if err != nil {
		return nil, nil, err
	}
	defer lock.release()
	adopted, found, err := recoverAll(ctx, state, newOptions(opts))
	return slices.Collect(maps.Values(adopted)), found, err
}

// recoverAll is Recover for who has the manager's lock. The adopted launches are by the names of their files.
func recoverAll(ctx context.Context, state string, opts options) (map[string]*EngineProvisioner, []Recovered, error) {
	stems, err := listed(state, recordName)
	if err != nil {
		return nil, nil, err
	}
	more, err := unrecorded(state)
	if err != nil {
		return nil, nil, err
	}
	return recoverEach(ctx, state, slices.Compact(slices.Sorted(slices.Values(append(stems, more...)))), opts)
}

// recoverEach is recoverAll for some replicas, which are named like their files.
func recoverEach(ctx context.Context, state string, stems []string, opts options) (map[string]*EngineProvisioner, []Recovered, error) {
	found := make([]Recovered, len(stems))
	launches := make([]*EngineProvisioner, len(stems))
	var all sync.WaitGroup
	for i, stem := range stems {
		all.Go(func() { launches[i], found[i] = adopt(ctx, replicaFiles{state: state, stem: stem}, opts) })
	}
	all.Wait()
	adopted := map[string]*EngineProvisioner{}
	for i, p := range launches {
		if p != nil {
			adopted[stems[i]] = p
		}
	}
	found = slices.DeleteFunc(found, func(r Recovered) bool { return r.Result == "" })
	if ctx.Err() != nil {
		for _, p := range adopted {
			p.Release()
		}
		return nil, found, context.Cause(ctx)
	}
	return adopted, found, nil
}

// event tells of a recovery.
func (f Recovered) event() Event {
	e := Event{
		Time: time.Now().UTC(), Pool: f.Pool, Replica: f.Replica, Kind: EventRecovery, PID: f.PID, Message: string(f.Result),
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

// adopt deals with one replica. Its result is empty when there is nothing to deal with.
func adopt(ctx context.Context, files replicaFiles, opts options) (*EngineProvisioner, Recovered) {
	begin, caller := time.Now(), ctx
	ctx, cancel := context.WithTimeout(ctx, recoveryBudget)
	defer cancel()
	rec, err := files.readRecord()
	if errors.Is(err, fs.ErrNotExist) || err == nil && rec.State.Final() {
		if caller.Err() != nil {
			return nil, Recovered{}
		}
		return nil, files.endOrphans(err == nil)
	}
	found := Recovered{Pool: rec.Pool, Replica: rec.Replica, Result: RecoveredUnknown, Err: err}
	if err != nil {
		found.Replica = files.stem
		return nil, found
	}
	p, err := attach(ctx, files, rec, opts)
	switch {
	case errors.Is(err, ErrNotRunning):
		found.Result = RecoveredGone
	case err != nil:
		found.Err = err
	default:
		found.Reason = p.unfit(ctx)
		if found.Reason == "" {
			found.Result, found.PID = RecoveredAdopted, p.Status().PID
			_, _ = p.run.inst.Observe() // for the case that it ends by itself
			break
		}
		if caller.Err() != nil { // what was found out may say nothing about the engine
			p.Release()
			found.Reason, found.Err = "", context.Cause(caller)
			break
		}
		found.Result = RecoveredStopped
		if err := p.Stop(ctx); err != nil && !errors.Is(err, ErrKilled) {
			found.Result, found.Err = RecoveredUnknown, err
		}
		p = nil
	}
	found.Took = time.Since(begin)
	if found.Result != RecoveredAdopted {
		p = nil
	}
	return p, found
}

// unfit says why an engine that was found alive cannot be adopted; "" when it can. An engine that still loads can, and
// WaitReady becomes possible on it.
func (p *EngineProvisioner) unfit(ctx context.Context) string {
	r := p.run
	engine, known := p.opts.engine(r.rec.Engine)
	switch {
	case r.inst.Exited():
		return "its main process is gone"
	case r.rec.Desired == desiredStopped:
		return "its stop was interrupted"
	case !known:
		return fmt.Sprintf("engine %q is not known here", r.rec.Engine)
	}
	if err := p.readSecrets(); err != nil {
		return err.Error()
	}
	p.mu.Lock()
	p.engine = engine
	ready := p.state == StateReady
	p.mu.Unlock()
	if !ready {
		return ""
	}
	return p.sick(ctx, 3)
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

// readSecrets looks up again what the record only refers to.
func (p *EngineProvisioner) readSecrets() error {
	rec := p.run.rec
	var found []secret
	for _, ref := range rec.Launch.Secrets {
		s, err := ref.read(ProvisionConfig{Dir: rec.Dir})
		if err != nil {
			return err
		}
		found = append(found, s)
		if rec.APIKey != nil && ref == *rec.APIKey {
			p.run.key = s
		}
	}
	p.run.redact = newRedactor(found...)
	return nil
}

// sick says why a ready engine is not healthy; "" when it is. It asks up to times times.
func (p *EngineProvisioner) sick(ctx context.Context, times int) string {
	r := p.run
	ask := r.prober(r.rec.Launch.Ready.RequestTimeout)
	var last string
	for range times {
		a, err := ask.get(ctx, r.rec.Launch.Spec.Health, maxHealthBody)
		switch {
		case err != nil:
			last = err.Error()
		case a.status != http.StatusOK:
			last = a.String()
		default:
			if err := r.checkListener(); err != nil {
				return err.Error()
			}
			return ""
		}
		select {
		case <-ctx.Done():
			return last
		case <-r.exited:
			return "it exited"
		case <-time.After(500 * time.Millisecond):
		}
	}
	return last
}
