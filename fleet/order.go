package fleet

import (
	"context"
	"fmt"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/outcome"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/restart"
	"github.com/llama-orch/engine-provisioner/report"
)

// order is what a replica is told to do.
type order struct {
	kind  orderKind
	stop  provisioner.StopOptions        // of a stop
	cfg   provisioner.ProvisionConfig    // of a reload, and of an update
	now   provisioner.Comparison         // of an update, where a launch runs
	next  *provisioner.EngineProvisioner // of a reload: what was rehearsed, and is launched; nil for another
	firm  bool                           // of a reload: no settings of before come back
	reply chan error                     // of one element
	by    *report.Stopper                // of a stop that another program has asked for
	hold  hold.Hold                      // of a hold; of its end, whether it is the node's
}

type orderKind int

const (
	orderStop    orderKind = iota // until a reset or a reload
	orderEnd                      // stop, for good
	orderRelease                  // leave the engine alone, for good
	orderStart
	orderReset
	orderReload
	orderUpdate // settings that change nothing about the launch
	orderHalt   // stop, until the next order, for a reload of several
	orderHold   // stop, until orderUnhold or until the time is over
	orderUnhold
)

// over is what answers whoever comes after a last order; nil when there is none.
func (o *order) over() error {
	switch {
	case o == nil:
		return nil
	case o.kind == orderRelease:
		return provisioner.ErrReleased
	default:
		return provisioner.ErrStopped
	}
}

// asIs reports whether a launch that runs goes on through the order as it is.
func (o *order) asIs() bool {
	return o.kind == orderReset || o.kind == orderStart || o.kind == orderUnhold
}

// ask gives an order and waits for its outcome.
func (r *replica) ask(ctx context.Context, o order) error {
	o.reply = make(chan error, 1)
	select {
	case r.orders <- &o: // which is large, and each replica that waits would have room for several on its stack
	case <-r.done:
		return fmt.Errorf("cannot reach %s: %w", r.name, r.over)
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

// insist gives an order that is carried out also when its caller waits no longer. The replica may be in the middle of a stop
// of its own, for a reload say, and hear of no order until that is over.
func (r *replica) insist(ctx context.Context, o order) error {
	answer := make(chan error, 1)
	go func() { answer <- r.ask(context.Background(), o) }()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return outcome.GoesOn(ctx, "the stop of "+r.name)
	}
}

// hurry ends all waiting of the present launch's stop, and begins one where there is none.
func (r *replica) hurry() {
	r.mu.Lock()
	p := r.launch
	r.mu.Unlock()
	waits, no := context.WithCancel(context.Background())
	no()
	if p != nil {
		_ = p.Kill(waits) // the replica's own Stop tells what came of it
	}
}

// halt stops launch p within the limits of an order, or at once when everything is to be killed.
func (r *replica) halt(p *provisioner.EngineProvisioner, o *order) error {
	if r.forced.Load() {
		return p.Kill(context.Background())
	}
	limits := o.stop
	limits.By = o.by
	return p.StopWith(context.Background(), limits)
}

// tellStopper says which other program has asked for a stop, where launch p has nothing to stop and so says nothing.
func (r *replica) tellStopper(p *provisioner.EngineProvisioner, by *report.Stopper) {
	if by == nil {
		return
	}
	r.update(func() { r.by = by })
	if p != nil && !p.Status().State.Final() { // its states tell
		return
	}
	cfg := r.config()
	r.tell(provisioner.Event{
		Time: time.Now().UTC(), Pool: cfg.PoolID, Replica: cfg.ReplicaID, Kind: provisioner.EventNote, State: r.status().State,
		Message: "stopped by another command: " + by.String() + "; it is not started again until it is reset", StoppedBy: by,
	})
}

// obey carries out an order; p is the launch that it finds, nil when there is none. It returns false when the replica
// is to be let alone from now on.
func (r *replica) obey(o *order, p *provisioner.EngineProvisioner) bool {
	r.halted = false
	if h := r.hold(); h != nil && (o.kind == orderStart || o.kind == orderReload || o.kind == orderHalt) {
		o.reply <- &hold.Error{Replica: r.name, Hold: *h}
		return true
	}
	switch o.kind {
	case orderHold:
		r.obeyHold(o, p)
		return true
	case orderUnhold:
		o.reply <- r.lift(o.hold.Node)
		return true
	case orderReset, orderStart:
		if o.kind == orderStart || r.history().Phase != report.PhaseStopped {
			r.judge(policy.Happened(restart.Forgiven))
		}
		o.reply <- nil
		return true
	case orderReload:
		r.obeyReload(o, p)
		return true
	case orderUpdate:
		r.obeyUpdate(o, p)
		return true
	case orderHalt:
		r.obeyHalt(o, p)
		return true
	case orderRelease:
		// Its past is for the next fleet: an open breaker stays open, and an engine that loads loads on.
		r.over = o.over()
		var err error
		if p != nil {
			p.Release()
		}
		if p != nil && r.config().OnManagerExit == "kill" { // that was a stop
			err = p.Stop(context.Background())
		}
		o.reply <- err
		return false
	default: // orderStop, orderEnd
		r.ends = o.kind == orderEnd
		if o.kind == orderStop {
			r.keepStopped() // first: the next fleet has to know it also when this one dies over the drain
		}
		r.dropReload(provisioner.ErrStopped)
		var err error
		r.tellStopper(p, o.by)
		if p != nil {
			err = r.halt(p, o)
		}
		r.judge(policy.Happened(restart.Unwanted))
		o.reply <- err
		return o.kind == orderStop
	}
}

// goesOnWith reports whether launch p is still the one to look after when an order has been carried out.
func (r *replica) goesOnWith(p *provisioner.EngineProvisioner, o *order) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return o.asIs() || o.kind == orderUpdate && r.launch == p
}

// atOnce are the limits of a kill.
func atOnce() provisioner.StopOptions {
	return provisioner.StopOptions{DrainTimeout: new(time.Duration), Grace: new(time.Duration)}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
