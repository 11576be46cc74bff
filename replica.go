package provisioner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
)

// replica is one replica under a Supervisor. Its goroutine, run, decides everything; others send it orders.
type replica struct {
	name   string
	opts   []Option
	tell   options
	files  replicaFiles
	orders chan order
	done   chan struct{} // closed when run has ended

	// Owned by run.
	reload *reload // under way
	gpus   []GPU   // of the last launch, with their memory before it

	mu       sync.Mutex
	cfg      ProvisionConfig
	launch   *EngineProvisioner // the present launch, or the last one
	past     Restarts
	outdated bool
	last     error         // why the last launch ended; nil while one is ready
	changed  chan struct{} // closed and replaced whenever one of these changes
}

// order is what a replica is told to do.
type order struct {
	kind  orderKind
	ctx   context.Context // of a stop, and of the stop in a reload
	cfg   ProvisionConfig // of a reload
	reply chan error      // of one element
}

type orderKind int

const (
	orderStop    orderKind = iota // for good
	orderRelease                  // leave the engine alone, for good
	orderReset
	orderReload
)

// reload is a change of the configuration that is not decided yet.
type reload struct {
	old    ProvisionConfig
	reply  chan error
	failed error // why the new configuration did not work: the old one is coming back
}

func newReplica(cfg ProvisionConfig, files replicaFiles, opts []Option) *replica {
	r := &replica{
		name: cfg.Name(), opts: opts, tell: newOptions(opts), files: files, cfg: cfg,
		orders: make(chan order), done: make(chan struct{}), changed: make(chan struct{}),
	}
	// Only the manager writes this file, so what is left of a write is an earlier one's.
	if err := atomicfile.Clear(r.restartFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.tell.logger.Warn(err.Error(), "replica", r.name)
	}
	r.past = r.readPast(time.Now())
	return r
}

// run takes care of the replica until it is told to end.
func (r *replica) run() {
	defer close(r.done)
	for {
		var goOn bool
		switch past := r.history(); past.Phase {
		case PhaseRunning:
			goOn = r.runLaunch()
		case PhaseBackoff, PhaseOpen:
			goOn = r.rest(time.Until(past.RetryAt))
		default:
			goOn = r.rest(0)
		}
		if !goOn {
			return
		}
	}
}

// rest waits for an order, or for as long as wait if it is positive.
func (r *replica) rest(wait time.Duration) bool {
	var alarm <-chan time.Time
	if r.history().Phase != PhaseFailed && r.history().Phase != PhaseStopped {
		timer := time.NewTimer(max(wait, 0))
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case <-alarm:
		r.judge(incident{what: due})
		return true
	case o := <-r.orders:
		return r.obey(o, nil)
	}
}

// runLaunch is the life of one launch, from its start or adoption to its end or an order that ends it.
func (r *replica) runLaunch() bool {
	p, err := r.nextLaunch()
	if err != nil {
		r.ended(err, nil)
		return true
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := make(chan error, 1)
	go func() { began <- r.bringUp(ctx, p) }()
	for pending := true; pending; {
		select {
		case err := <-began:
			if err != nil {
				r.ended(err, p)
				return true
			}
			pending = false
		case o := <-r.orders:
			if o.kind != orderReset {
				cancel()
				if err := <-began; err != nil {
					r.tell.logger.Debug("a load was called off", "replica", r.name, "error", err)
				}
			}
			if !r.obey(o, p) {
				return false
			}
			if o.kind == orderReload {
				return true
			}
		}
	}
	r.judge(incident{what: becameReady})
	r.settleReload(nil)
	go p.keepHealthy(ctx, r.config().Liveness)
	stable := time.NewTimer(time.Duration(r.config().Restart.StableAfter))
	defer stable.Stop()
	for {
		select {
		case <-p.Done():
			if err := p.Err(); err != nil {
				r.ended(err, p)
			} else {
				r.judge(incident{what: unwanted, text: "stopped by another command"})
			}
			return true
		case <-stable.C:
			r.judge(incident{what: due})
		case o := <-r.orders:
			if !r.obey(o, p) {
				return false
			}
			if o.kind == orderReload {
				return true
			}
		}
	}
}

// nextLaunch is the adopted launch, the first time, and a new one else.
func (r *replica) nextLaunch() (*EngineProvisioner, error) {
	r.mu.Lock()
	p := r.launch
	r.mu.Unlock()
	if p != nil && !p.Status().State.Final() {
		return p, nil
	}
	p, err := New(r.config(), r.opts...)
	if err != nil {
		return nil, err
	}
	p.attempt = r.history().Attempts + 1
	r.update(func() { r.launch, r.outdated = p, false })
	return p, nil
}

// bringUp starts the launch, unless it was adopted, and waits until it is ready.
func (r *replica) bringUp(ctx context.Context, p *EngineProvisioner) error {
	if p.Status().State == StateNew {
		if err := awaitGPUMemory(ctx, r.tell.gpuDriver(), r.gpus); err != nil {
			return err
		}
		if err := p.Start(ctx); err != nil {
			return err
		}
	}
	r.gpus = p.run.rec.Launch.GPUs
	_, err := p.WaitReady(ctx)
	return err
}

// ended judges the end of a launch, or of the attempt at one.
func (r *replica) ended(err error, p *EngineProvisioner) {
	if p != nil && !p.Status().State.Final() { // it was given up by bringUp's context, say
		_ = p.Stop(context.Background())
	}
	if r.settleReload(err) {
		return
	}
	r.update(func() { r.last = err })
	r.judge(incidentOf(err))
}

// incidentOf reads from an error what the restart policy needs.
func incidentOf(err error) incident {
	e := incident{what: ended, text: err.Error(), cause: causeOf(err), err: err}
	var failure interface{ failure() *Failure }
	var config *ConfigError
	var gpu *GPUError
	switch {
	case errors.As(err, &config), errors.As(err, &gpu):
		e.permanent = true
	case errors.As(err, &failure):
		e.permanent = !failure.failure().Retry
	}
	for _, passing := range []error{ErrBusy, errGPUBusy, syscall.ENOSPC, syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ETXTBSY} {
		if errors.Is(err, passing) {
			e.blameless, e.permanent = true, false
		}
	}
	return e
}

// obey carries out an order; p is the launch that it finds, nil when there is none. It returns false when the replica
// is to be let alone from now on.
func (r *replica) obey(o order, p *EngineProvisioner) bool {
	switch o.kind {
	case orderReset:
		r.judge(incident{what: forgiven})
		o.reply <- nil
		return true
	case orderReload:
		old := r.config()
		r.update(func() { r.cfg = o.cfg })
		r.reload = &reload{old: old, reply: o.reply}
		if p != nil {
			if err := p.Stop(o.ctx); err != nil && !errors.Is(err, ErrKilled) {
				r.settleReload(err)
				return true
			}
		}
		r.update(func() { r.past.Phase, r.past.RetryAt, r.past.ReadyAt = PhaseRunning, time.Time{}, time.Time{} })
		return true
	case orderRelease:
		if p != nil && p.Status().State == StateReady {
			p.Release()
			o.reply <- nil
			return false
		}
	}
	var err error
	if p != nil {
		err = p.Stop(o.ctx)
	}
	if r.reload != nil {
		r.reload.reply <- fmt.Errorf("cannot reload %s: %w", r.name, ErrStopped)
		r.reload = nil
	}
	r.judge(incident{what: unwanted})
	o.reply <- err
	return false
}

// settleReload decides a reload by the outcome of a launch. It reports whether it has dealt with a failure.
func (r *replica) settleReload(outcome error) bool {
	l := r.reload
	switch {
	case l == nil:
		return false
	case outcome == nil && l.failed == nil:
		l.reply <- nil
	case outcome == nil:
		l.reply <- fmt.Errorf("cannot reload %s, the old settings are back: %w", r.name, l.failed)
	case l.failed == nil:
		l.failed = outcome
		r.update(func() { r.cfg = l.old })
		return true // the phase is still running: the old settings are launched next
	default:
		l.reply <- fmt.Errorf("cannot reload %s, and the old settings do not work any more: %w", r.name, errors.Join(l.failed, outcome))
		r.reload = nil
		return false
	}
	r.reload = nil
	return false
}

// judge lets the restart policy decide, keeps the result on disk and tells of it. Only run calls it.
func (r *replica) judge(e incident) {
	before, cfg := r.history(), r.config()
	now, what := cfg.Restart.next(before, e, time.Now(), rand.Float64()) //nolint:gosec // jitter, not a secret
	if now == before {
		return
	}
	if err := r.writePast(now); err != nil {
		r.tell.logger.Warn("cannot keep the restarts", "replica", r.name, "error", err)
	}
	launchID := ""
	r.update(func() {
		r.past = now
		if e.what == becameReady {
			r.last = nil
		}
		if r.launch != nil {
			launchID = r.launch.Status().LaunchID
		}
	})
	if what == waitUntil || what == giveUp {
		r.tell.onEvent(Event{
			Time: time.Now().UTC(), Pool: cfg.PoolID, Replica: cfg.ReplicaID, LaunchID: launchID, Kind: EventRestart,
			State: StateFailed, Cause: now.Cause, Attempt: before.Attempts + 1, Message: e.text, Restarts: &now, Err: e.err,
		})
	}
}

// readPast is the replica's past as an earlier supervisor kept it, as far as it matters to one that is told to run it.
func (r *replica) readPast(now time.Time) Restarts {
	var past Restarts
	data, err := readState(r.restartFile())
	if err != nil || json.Unmarshal(data, &past) != nil {
		past = Restarts{}
	}
	if past.Phase != PhaseBackoff && past.Phase != PhaseOpen {
		past.Phase, past.ReadyAt = PhaseRunning, time.Time{}
	}
	// A clock that was set back must not make a wait longer than it can be.
	if limit := now.Add(2 * time.Duration(r.cfg.Restart.CooldownMax)); past.RetryAt.After(limit) {
		past.RetryAt = limit
	}
	return past
}

// announceWait tells of a wait that an earlier supervisor began and this one goes on with: else nothing would be heard
// of the replica for as long as half an hour.
func (r *replica) announceWait() {
	past, now := r.past, time.Now()
	wait := past.RetryAt.Sub(now).Round(100 * time.Millisecond)
	if past.Phase != PhaseBackoff && past.Phase != PhaseOpen || wait <= 0 {
		return
	}
	r.tell.onEvent(Event{
		Time: now.UTC(), Pool: r.cfg.PoolID, Replica: r.cfg.ReplicaID, Kind: EventNote, State: StateNew, Cause: past.Cause,
		Attempt: past.Attempts + 1, Message: fmt.Sprintf("it failed under an earlier manager, and is started in %s", wait),
	})
}

// restartFile keeps the past across a crash of the supervisor: one that crashes together with its engines would
// otherwise never open a breaker.
func (r *replica) restartFile() string { return filepath.Join(r.files.dir(), "restarts.json") }

func (r *replica) writePast(past Restarts) error {
	data, err := json.MarshalIndent(past, "", "  ")
	if err != nil {
		return err
	}
	if err := r.files.create(); err != nil {
		return err
	}
	return atomicfile.Write(r.restartFile(), append(data, '\n'))
}

func (r *replica) config() ProvisionConfig {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg
}

func (r *replica) history() Restarts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.past
}

// update changes what others may read, and wakes those who wait for it.
func (r *replica) update(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	close(r.changed)
	r.changed = make(chan struct{})
}

// ask gives an order and waits for its outcome.
func (r *replica) ask(ctx context.Context, o order) error {
	o.reply = make(chan error, 1)
	o.ctx = cmp.Or(o.ctx, ctx)
	select {
	case r.orders <- o:
	case <-r.done:
		return fmt.Errorf("cannot reach %s: %w", r.name, ErrStopped)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-o.reply:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// waitReady returns when the replica is ready, or with the failure that came first.
func (r *replica) waitReady(ctx context.Context) error {
	for {
		r.mu.Lock()
		past, last, changed := r.past, r.last, r.changed
		r.mu.Unlock()
		switch {
		case past.Phase == PhaseRunning && !past.ReadyAt.IsZero():
			return nil
		case last != nil:
			return last
		case past.Phase == PhaseStopped:
			return fmt.Errorf("%s: %w", r.name, ErrStopped)
		}
		select {
		case <-changed:
		case <-r.done:
			return fmt.Errorf("%s: %w", r.name, ErrStopped)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// waitEnd returns when the replica was given up, with why, or stopped; ended is false when ctx ends first.
func (r *replica) waitEnd(ctx context.Context) (ended bool, err error) {
	for {
		r.mu.Lock()
		phase, last, changed := r.past.Phase, r.last, r.changed
		r.mu.Unlock()
		switch phase {
		case PhaseFailed:
			return true, last
		case PhaseStopped:
			return true, nil
		}
		select {
		case <-changed:
		case <-r.done:
			return true, nil
		case <-ctx.Done():
			return false, nil
		}
	}
}

func (r *replica) status() Status {
	r.mu.Lock()
	cfg, launch, past, outdated := r.cfg, r.launch, r.past, r.outdated
	r.mu.Unlock()
	s := Status{Pool: cfg.PoolID, Replica: cfg.ReplicaID, Engine: cfg.Engine, State: StateNew}
	if launch != nil {
		s = launch.Status()
	}
	s.Restarts, s.Outdated = &past, outdated
	return s
}

// adopt makes an engine that runs already the present launch.
func (r *replica) adopt(ctx context.Context, p *EngineProvisioner) {
	r.outdated = !r.tell.sameLaunch(ctx, r.cfg, p.run.rec.Launch.ConfigHash)
	p.mu.Lock()
	p.cfg, p.attempt = r.cfg, r.past.Attempts+1
	p.mu.Unlock()
	if r.outdated {
		p.note("it runs with other settings than those of the configuration; replace it when it suits")
	}
	r.launch = p
	r.past.Phase, r.past.RetryAt = PhaseRunning, time.Time{}
}
