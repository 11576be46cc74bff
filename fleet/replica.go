package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/needs"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/restart"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// replica is one replica under a Fleet. Its goroutine, run, decides everything; others send it orders.
type replica struct {
	id     provisioner.ReplicaID
	name   string
	fleet  *Fleet
	log    *slog.Logger
	tell   func(provisioner.Event)
	opts   []provisioner.Option // of its launches
	files  state.Files
	forced atomic.Bool // everything is to be killed
	orders chan *order
	done   chan struct{} // closed when run has ended

	// Owned by run.
	reload *reload                        // under way
	halted bool                           // nothing is started until there is an order
	proven *provisioner.ProvisionConfig   // the last settings that were ready; nil before there were any
	served string                         // stands for them, also for those of an earlier manager
	before *provisioner.EngineProvisioner // the last launch that has run, of which the memory of GPUs is to come back; nil when that was awaited
	over   error                          // why run ended: ErrStopped or ErrReleased; fixed once done is closed
	stale  bool                           // what is on disk is not what it goes on with
	ends   bool                           // it has got its last order, which stops it
	ending *provisioner.EngineProvisioner // a launch whose stop an earlier program did not finish; nil when there is none

	mu       sync.Mutex
	cfg      provisioner.ProvisionConfig
	launch   *provisioner.EngineProvisioner // the present launch, or the last one
	past     report.Restarts
	kept     bool                // its past is on disk
	outdated []report.Difference // by what the launch differs from the present settings
	leaving  bool                // it was removed from the configuration
	lacking  error               // a *GPUError: what the adopted launch runs without, and must not by the present settings; else nil
	wasHeld  bool                // it was stopped under an earlier fleet, and nobody has started it since
	held     *hold.Hold          // in force; nil when nobody holds it
	by       *report.Stopper     // the other program that has stopped it last; nil when none has, or it is not known
	last     error               // why the last launch ended; nil while one is ready
	changed  chan struct{}       // closed and replaced whenever one of these changes
}

func newReplica(f *Fleet, cfg provisioner.ProvisionConfig) *replica {
	r := &replica{
		id: cfg.ID(), name: cfg.Name(), fleet: f, log: f.log, tell: f.tell, opts: f.opts, files: state.In(f.state, state.Stem(cfg.PoolID, cfg.ReplicaID)), cfg: cfg,
		orders: make(chan *order), done: make(chan struct{}), changed: make(chan struct{}),
	}
	if err := r.files.ClearRestarts(); err != nil {
		r.log.Warn(err.Error(), "replica", r.name)
	}
	r.resume(time.Now())
	return r
}

// run takes care of the replica until it is told to end.
func (r *replica) run() {
	r.over = provisioner.ErrStopped
	defer close(r.done)
	defer func() { r.dropReload(r.over) }()
	for goOn := true; goOn; {
		// A mistake in here is a failure of this replica, and of no other.
		if err := caught.Do(r.log, r.name, func() { goOn = r.step() }); err != nil {
			r.mu.Lock()
			p := r.launch
			r.mu.Unlock()
			r.ended(err, p)
		}
	}
}

// step does what is next; it returns false when the replica was told to end.
func (r *replica) step() bool {
	switch past := r.history(); {
	case r.hold() != nil:
		return r.restHeld()
	case r.halted:
		return r.obey(<-r.orders, nil)
	case past.Phase == report.PhaseRunning:
		return r.runLaunch()
	case policy.Waits(past):
		return r.rest(time.Until(past.RetryAt))
	default:
		return r.rest(0)
	}
}

// rest waits for an order, or for as long as wait if it is positive.
func (r *replica) rest(wait time.Duration) bool {
	var alarm <-chan time.Time
	if r.history().Phase != report.PhaseFailed && r.history().Phase != report.PhaseStopped {
		timer := time.NewTimer(max(wait, 0))
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case <-alarm:
		r.judge(policy.Happened(restart.Due))
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
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	began, lost := make(chan error, 1), make(chan error, 1)
	go func() { began <- r.bringUp(ctx, p, lost) }()
	for pending := true; pending; {
		select {
		case err := <-began:
			if errors.Is(err, errStopFinished) {
				r.afterStop(p)
				return true
			}
			if err != nil {
				if died, ok := errors.AsType[*provisioner.ExitError](err); ok && died.Ready { // before that was known here
					r.judge(policy.Happened(restart.BecameReady))
				}
				r.ended(err, p)
				return true
			}
			pending = false
		case loss := <-lost:
			cancel(loss)
			<-began //nolint:errcheck // it was called off
			r.ended(loss, p)
			return true
		case o := <-r.orders:
			if !o.asIs() {
				cancel(o.over())
				if err := <-began; err != nil {
					r.log.Debug("a load was called off", "replica", r.name, "error", err)
				}
			}
			if !r.obey(o, p) {
				return false
			}
			if !o.asIs() {
				return true
			}
		}
	}
	stable := r.isUp(ctx, p)
	defer stable.Stop()
	for {
		select {
		case <-p.Done():
			if err := p.Err(); err != nil {
				r.ended(err, p)
			} else {
				r.stoppedElsewhere()
			}
			return true
		case err := <-lost:
			r.ended(err, p)
			return true
		case <-stable.C:
			r.judge(policy.Happened(restart.Due))
		case o := <-r.orders:
			if !r.obey(o, p) {
				return false
			}
			if !r.goesOnWith(p, o) {
				return true
			}
		}
	}
}

// isUp takes note that launch p is ready, and returns when that makes it stable. It is not on the stack of who waits for its end.
func (r *replica) isUp(ctx context.Context, p *provisioner.EngineProvisioner) (stable *time.Timer) {
	if !r.isOutdated() {
		r.proven = new(r.config())
		r.served = policy.Decisive(*r.proven)
	}
	r.judge(policy.Happened(restart.BecameReady))
	r.settleReload(nil)
	cfg := r.config()
	go p.KeepHealthy(ctx, cfg.Liveness)
	return time.NewTimer(time.Until(r.history().ReadyAt.Add(time.Duration(cfg.Restart.StableAfter))))
}

// nextLaunch is the adopted launch, the first time, and a new one else. One that could not be killed is no launch to go
// on with: the new one is told that the replica is busy, and tried again until that is over.
func (r *replica) nextLaunch() (p *provisioner.EngineProvisioner, err error) {
	r.mu.Lock()
	p = r.launch
	r.mu.Unlock()
	if p != nil && p.Running() {
		return p, nil
	}
	cfg := r.config()
	if l := r.reload; l != nil && l.next != nil {
		p, l.next = l.next, nil
	} else if p, err = provisioner.New(cfg, r.opts...); err != nil {
		return nil, err
	}
	r.fleet.attempts.Store(cfg.ID(), r.history().Attempts+1)
	r.update(func() { r.launch, r.outdated, r.lacking = p, nil, nil })
	return p, nil
}

// bringUp starts the launch, unless it was adopted, and waits until it is ready.
func (r *replica) bringUp(ctx context.Context, p *provisioner.EngineProvisioner, lost chan<- error) (err error) {
	defer caught.Into(&err, r.log, r.name)
	if p == r.ending {
		return finishStop(p)
	}
	if err := r.awaitNeeds(ctx, p, lost); err != nil {
		return err
	}
	if p.Status().State == provisioner.StateNew {
		if err := r.awaitStop(ctx, p); err != nil {
			return err
		}
		if before := r.before; before != nil {
			r.before = nil // memory that never comes back is waited for once
			if err := before.AwaitGPUs(ctx); err != nil {
				return err
			}
		}
		if err := p.Start(ctx); err != nil {
			return err
		}
	}
	r.before = p
	_, err = p.WaitReady(ctx)
	return err
}

// ended judges the end of a launch, or of the attempt at one.
func (r *replica) ended(err error, p *provisioner.EngineProvisioner) {
	if p != nil && !p.Status().State.Final() { // it was given up by bringUp's context, say
		_ = p.Stop(context.Background())
	}
	if errors.Is(err, provisioner.ErrStopped) { // nobody here has asked for it, or there would be an order
		r.stoppedElsewhere()
		return
	}
	if _, lost := errors.AsType[*needs.LostError](err); lost { // no failure of this one's
		r.note(err.Error() + "; it is started again when that is ready")
		r.judge(policy.Happened(restart.Wanted))
		return
	}
	if !r.settleReload(err) {
		r.judge(policy.Failed(err))
	}
}

// stoppedElsewhere takes note of a stop by another command: the replica stays stopped.
func (r *replica) stoppedElsewhere() {
	r.keepStopped()
	r.mu.Lock()
	p := r.launch
	r.mu.Unlock()
	if p != nil {
		by := p.Status().StoppedBy
		r.update(func() { r.by = by })
	}
	r.dropReload(fmt.Errorf("%w by another command", provisioner.ErrStopped))
	r.judge(policy.Happened(restart.Unwanted))
}

// note tells something that changes nothing.
func (r *replica) note(message string) {
	r.log.Warn(message, "replica", r.name)
	r.tellNote(message, nil)
}

// tellNote is note without a warning; h is the hold that it is about, if it is about one.
func (r *replica) tellNote(message string, h *hold.Hold) {
	cfg, now := r.config(), r.status()
	r.tell(provisioner.Event{
		Time: time.Now().UTC(), Pool: cfg.PoolID, Replica: cfg.ReplicaID, LaunchID: now.LaunchID, Kind: provisioner.EventNote, State: now.State, PID: now.PID,
		Message: message, Hold: h,
	})
}

func (r *replica) config() provisioner.ProvisionConfig {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg
}

func (r *replica) history() report.Restarts {
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
