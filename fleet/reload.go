package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/internal/restart"
	"github.com/llama-orch/engine-provisioner/report"
)

// reload is a change of a replica's configuration that is not decided yet.
type reload struct {
	reply  chan error                     // of one element
	firm   bool                           // nothing comes back by itself
	next   *provisioner.EngineProvisioner // the launch that was rehearsed, until it is made
	failed error                          // why the new configuration did not work: the proven one is coming back
}

// Reload gives a replica another configuration, of the same pool and replica. Where the launch would be the same, the
// running engine goes on under the new settings, and nothing is when they are the present ones. Otherwise: what has to be
// downloaded or built is, and what can be found out without a start is found out, before anything is stopped. Then the
// running engine is stopped, with its drain, and the new one is started and awaited. When it does not become ready, the
// last settings that were ready come back, and the error says both. A replica that has failed is tried at once, also with
// the settings that it has. One replica is reloaded at a time, and one that is ready only while the others of its pool are
// or were given up. See Apply for a changed pools file.
//
// When ctx ends, what was begun goes on without the caller.
func (f *Fleet) Reload(ctx context.Context, cfg provisioner.ProvisionConfig) error {
	r, err := f.find(cfg.ID())
	if err != nil {
		return err
	}
	cfgs, err := f.checked([]provisioner.ProvisionConfig{cfg})
	if err != nil {
		return err
	}
	cfg = cfgs[0]
	if err := f.keepsPort(r, cfg); err != nil {
		return err
	}
	what, now := r.weigh(ctx, cfg)
	var next *provisioner.EngineProvisioner
	if what == policy.Relaunch {
		if next, err = r.rehearse(ctx, cfg); err != nil {
			return err
		}
	}
	done, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := f.over(); err != nil {
		return fmt.Errorf("cannot reload %s: %w", r.name, err)
	}
	switch what {
	case policy.Nothing:
		return nil
	case policy.Update:
		return r.ask(ctx, order{kind: orderUpdate, cfg: cfg, now: now})
	case policy.Retry:
		return r.retry(ctx, cfg)
	}
	return f.replace(ctx, r, order{cfg: cfg, next: next}, nil)
}

// keepsPort refuses a port that another replica has.
func (f *Fleet) keepsPort(r *replica, cfg provisioner.ProvisionConfig) error {
	for _, other := range f.all() {
		if other != r && other.port() == cfg.Port && !other.atRest() {
			return fmt.Errorf("cannot reload %s, nothing was changed: port %d is that of %s; change both at once", r.name, cfg.Port, other.name)
		}
	}
	return nil
}

// port is the one that the engine has, or that it is to have next.
func (r *replica) port() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.launch != nil && r.launch.Running() {
		if at, err := url.Parse(r.launch.Status().URL); err == nil {
			if port, err := strconv.Atoi(at.Port()); err == nil {
				return port
			}
		}
	}
	return r.cfg.Port
}

// reload gives a replica settings that need another launch, for who has begun a change. Those in absent are not missed
// while it is away.
func (f *Fleet) reload(ctx context.Context, r *replica, cfg provisioner.ProvisionConfig, absent map[*replica]bool) error {
	if err := f.keepsPort(r, cfg); err != nil {
		return err
	}
	next, err := r.rehearse(ctx, cfg)
	if err != nil {
		return err
	}
	return f.replace(ctx, r, order{cfg: cfg, next: next}, absent)
}

// replace is reload of what was rehearsed.
func (f *Fleet) replace(ctx context.Context, r *replica, o order, absent map[*replica]bool) error {
	if err := f.awaitOthers(ctx, []*replica{r}, absent); err != nil {
		return err
	}
	o.kind = orderReload
	return r.ask(ctx, o)
}

// awaitOthers waits until all others of the pools are ready from which a ready replica is about to be taken. Those that
// somebody has stopped, or that were given up, are not missed.
func (f *Fleet) awaitOthers(ctx context.Context, going []*replica, absent map[*replica]bool) error {
	for _, r := range going {
		if !r.isReady() {
			continue
		}
		for _, other := range f.all() {
			if slices.Contains(going, other) || absent[other] || other.atRest() || other.config().PoolID != r.config().PoolID {
				continue
			}
			if err := other.waitReady(ctx); err != nil {
				return fmt.Errorf("cannot reload %s while another replica of its pool is not ready: %w", r.name, err)
			}
		}
	}
	return nil
}

// retry starts a replica that has failed at once, under cfg, and waits until it is ready.
func (r *replica) retry(ctx context.Context, cfg provisioner.ProvisionConfig) error {
	err := r.ask(ctx, order{kind: orderUpdate, cfg: cfg})
	if err == nil {
		err = r.ask(ctx, order{kind: orderStart})
	}
	if err == nil {
		err = r.waitReady(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot start %s again: %w", r.name, err)
	}
	return nil
}

// within derives a context that ends with ctx and with the replica, whichever is first.
func (r *replica) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-r.done:
			cancel(r.over)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// rehearse does what a start can do while another engine runs, and returns the launch of which that is known.
func (r *replica) rehearse(ctx context.Context, cfg provisioner.ProvisionConfig) (*provisioner.EngineProvisioner, error) {
	ctx, cancel := r.within(ctx)
	defer cancel()
	p, err := provisioner.New(cfg, r.opts...)
	if err == nil {
		_, err = p.Rehearse(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot reload %s, nothing was changed: %w", r.name, err)
	}
	return p, nil
}

// differs is by what the launch differs from the present settings.
func (r *replica) differs() []report.Difference {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outdated
}

// isOutdated reports whether the launch was made with other settings than the present ones.
func (r *replica) isOutdated() bool { return len(r.differs()) > 0 }

// weigh tells what giving the replica a configuration takes; now is what that means for the launch that runs.
func (r *replica) weigh(ctx context.Context, cfg provisioner.ProvisionConfig) (what policy.Todo, now provisioner.Comparison) {
	r.mu.Lock()
	present, launch, outdated, past := r.cfg, r.launch, len(r.outdated) > 0, r.past
	r.mu.Unlock()
	cfg = cfg.WithDefaults()
	what, alike := policy.Weigh(present, cfg, outdated)
	if launch == nil || !launch.Running() {
		switch {
		case !alike:
			return policy.Relaunch, now
		case past.Phase != report.PhaseRunning:
			return policy.Retry, now
		}
		return what, now // it is being started
	}
	ctx, cancel := r.within(ctx)
	defer cancel()
	now, err := launch.Compare(ctx, cfg)
	switch {
	case err != nil && alike && !outdated: // whatever is away, the engine runs without it
		return what, now
	case err != nil, len(now.Differs) > 0:
		return policy.Relaunch, now
	}
	return what, now
}

// obeyHalt ends launch p, which is nil when there is none. Unlike after a stop, the replica is to run: an order for that
// follows, or the next manager starts it.
func (r *replica) obeyHalt(o *order, p *provisioner.EngineProvisioner) {
	r.dropReload(errors.New("another reload took its place"))
	var err error
	if p != nil {
		if err = r.halt(p, o); errors.Is(err, provisioner.ErrKilled) {
			err = nil
		}
	}
	r.judge(policy.Happened(restart.Wanted))
	r.halted = true
	o.reply <- err
}

// obeyReload ends launch p, which is nil when there is none, and makes the new settings the present ones.
func (r *replica) obeyReload(o *order, p *provisioner.EngineProvisioner) {
	r.dropReload(errors.New("another reload took its place"))
	r.reload = &reload{reply: o.reply, firm: o.firm, next: o.next}
	r.update(func() { r.cfg = o.cfg })
	if p != nil {
		if err := r.halt(p, o); err != nil && !errors.Is(err, provisioner.ErrKilled) {
			r.settleReload(err)
		}
	}
	r.judge(policy.Happened(restart.Wanted))
}

// obeyUpdate gives launch p, which is nil when there is none, settings that the provisioner alone acts on.
func (r *replica) obeyUpdate(o *order, p *provisioner.EngineProvisioner) {
	switch {
	case p != nil && p.Running():
		now := o.now
		if !now.Of(p) { // it has begun to run since
			ctx, cancel := r.within(context.Background())
			now, _ = p.Compare(ctx, o.cfg) // what it says of the error is for who weighs; see there
			cancel()
		}
		next, err := p.Update(now)
		if err != nil {
			o.reply <- fmt.Errorf("cannot reload %s, nothing was changed: %w", r.name, err)
			return
		}
		r.update(func() { r.cfg, r.launch, r.outdated = o.cfg, next, nil })
		r.keep(r.history())
	default: // the next launch has them
		r.update(func() { r.cfg = o.cfg })
	}
	o.reply <- nil
}

// dropReload ends the reload that is under way, if one is.
func (r *replica) dropReload(err error) {
	if r.reload != nil {
		r.reload.reply <- fmt.Errorf("cannot reload %s: %w", r.name, err)
		r.reload = nil
	}
}

// settleReload decides a reload by the outcome of a launch. It reports whether it has dealt with a failure.
func (r *replica) settleReload(outcome error) bool {
	l := r.reload
	switch {
	case l == nil:
		return false
	case outcome == nil && l.failed == nil:
		l.reply <- nil
	case l.firm:
		l.reply <- outcome
	case outcome == nil:
		l.reply <- fmt.Errorf("cannot reload %s, the old settings are back: %w", r.name, l.failed)
	case l.failed != nil:
		l.reply <- fmt.Errorf("cannot reload %s, and the old settings do not work any more: %w", r.name, errors.Join(l.failed, outcome))
	case r.proven == nil:
		l.reply <- fmt.Errorf("cannot reload %s, and no other settings were ready before: %w", r.name, outcome)
	default:
		l.failed, l.next = outcome, nil
		r.update(func() { r.cfg = *r.proven })
		return true // the phase is still running: the old settings are launched next
	}
	r.reload = nil
	return false
}
