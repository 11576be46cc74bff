package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/holds"
	"github.com/llama-orch/engine-provisioner/internal/restart"
)

// Hold stops a replica, as [Fleet.Stop] does, with the same errors, and keeps it stopped: no Start, Reload or Apply, no restart,
// adoption or next Fleet starts it, until Unhold or until the time of h is over. A hold takes the place of an earlier one. When
// ctx ends, the stop goes on without the caller.
func (f *Fleet) Hold(ctx context.Context, id provisioner.ReplicaID, h hold.Hold, limits provisioner.StopOptions) error {
	if err := limits.Validate(); err != nil {
		return err
	}
	r, err := f.find(id)
	if err != nil {
		return err
	}
	h.Node = false
	return r.insist(ctx, order{kind: orderHold, hold: h, stop: limits})
}

// Unhold ends the hold of a replica, which is started, unless it was stopped by other means, too. The error is ErrNotFound, or
// a *hold.Error where all replicas are held. Ending a hold that is none does nothing.
func (f *Fleet) Unhold(ctx context.Context, id provisioner.ReplicaID) error {
	return f.order(ctx, id, order{kind: orderUnhold})
}

// HoldAll is Hold of all replicas of the state directory, those included that are added later.
func (f *Fleet) HoldAll(ctx context.Context, h hold.Hold, limits provisioner.StopOptions) error {
	if err := limits.Validate(); err != nil {
		return err
	}
	h.Node = true
	return joined(f.place(ctx, nil, h, limits))
}

// UnholdAll ends what HoldAll has begun. Replicas with a hold of their own stay held.
func (f *Fleet) UnholdAll(ctx context.Context) error { return joined(f.lift(ctx, nil)) }

// place holds the named replicas, or with none of them all.
func (f *Fleet) place(ctx context.Context, names []string, h hold.Hold, limits provisioner.StopOptions) ([]Answer, error) {
	if h.Node = len(names) == 0; h.Node {
		if err := holds.PlaceAll(f.state, h); err != nil {
			return nil, err
		}
		names = f.names()
	}
	return f.each(names, ResultHeld, func(r *replica) error { return r.insist(ctx, order{kind: orderHold, hold: h, stop: limits}) })
}

// lift ends the holds of the named replicas, or with none of them that of all.
func (f *Fleet) lift(ctx context.Context, names []string) ([]Answer, error) {
	node := len(names) == 0
	if node {
		if err := holds.LiftAll(f.state); err != nil {
			return nil, err
		}
		names = f.names()
	}
	return f.each(names, ResultUnheld, func(r *replica) error { return r.ask(ctx, order{kind: orderUnhold, hold: hold.Hold{Node: node}}) })
}

func (f *Fleet) names() (all []string) {
	for _, r := range f.all() {
		all = append(all, r.name)
	}
	return all
}

func joined(all []Answer, err error) error {
	errs := []error{err}
	for _, a := range all {
		if a.Error != "" {
			errs = append(errs, errors.New(a.Error))
		}
	}
	return errors.Join(errs...)
}

func (r *replica) hold() *hold.Hold {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// obeyHold ends launch p, which is nil when there is none. The hold is on disk first: the next fleet has to know it also when
// this one dies over the drain.
func (r *replica) obeyHold(o *order, p *provisioner.EngineProvisioner) {
	h, err := &o.hold, error(nil)
	if own := r.hold(); h.Node && own != nil && !own.Node {
		h = own
	} else if !h.Node {
		err = holds.Place(r.files, *h)
	}
	if err != nil {
		o.reply <- err
		return
	}
	r.update(func() { r.held = h })
	r.tellNote(h.String(), h)
	r.dropReload(&hold.Error{Replica: r.name, Hold: *h})
	if p != nil {
		err = r.halt(p, o)
	}
	r.judge(policy.Happened(restart.Unwanted))
	o.reply <- err
}

// lift ends the replica's hold, or looks whether that of the node is over. The replica is to run then, unless it was stopped, too.
func (r *replica) lift(node bool) error {
	if !node {
		if err := holds.Lift(r.files); err != nil {
			return err
		}
	}
	was, now := r.hold(), holds.Of(r.files, time.Now())
	ends := was != nil && now == nil
	if ends && !r.files.Held() {
		r.judge(policy.Happened(restart.Wanted)) // first: one that is stopped and not held seems to be at its end
	}
	r.update(func() { r.held = now })
	if ends {
		r.tellNote("not held any more", nil)
	}
	if now != nil && !node {
		return &hold.Error{Replica: r.name, Hold: *now}
	}
	return nil
}

// holdPeriod is the longest time between two looks at the clock, which may be set, and stands still while the machine sleeps.
const holdPeriod = 30 * time.Second

// restHeld waits for an order, or for the end of the hold. An engine that runs all the same is stopped: somebody has held it
// where there was no fleet, or this one's predecessor has died over it.
func (r *replica) restHeld() bool {
	r.mu.Lock()
	h, p := r.held, r.launch
	r.mu.Unlock()
	if p != nil && p.Running() {
		r.note(fmt.Sprintf("it runs, and is %s: its engine is stopped", h))
		if err := r.halt(p, &order{}); err != nil && !errors.Is(err, provisioner.ErrKilled) {
			r.note(err.Error())
		}
		r.ending = nil
		r.judge(policy.Happened(restart.Unwanted))
	}
	var alarm <-chan time.Time
	if !h.Until.IsZero() {
		timer := time.NewTimer(min(time.Until(h.Until), holdPeriod))
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case <-alarm:
		if !h.Over(time.Now()) {
			return true
		}
		if err := r.lift(h.Node); err != nil {
			r.log.Warn(err.Error(), "replica", r.name)
		}
		return true
	case o := <-r.orders:
		return r.obey(o, nil)
	}
}
