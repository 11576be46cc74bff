package provisioner

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/llama-orch/engine-provisioner/internal/restart"
)

// reload is a change of a replica's configuration that is not decided yet.
type reload struct {
	reply  chan error // of one element
	failed error      // why the new configuration did not work: the proven one is coming back
}

// Reload gives a replica another configuration, of the same pool and replica. What has to be downloaded or built for it
// is, and what can be found out without a start is found out, before anything is stopped. Then the running engine is
// stopped, with its drain, and the new one is started and awaited. When it does not become ready, the last settings that
// were ready come back, and the error says both. One replica is reloaded at a time, and one that is ready only while the
// others of its pool are. See Apply for a changed pools file.
//
// When ctx ends, the drain and the grace of the old engine are cut short, and the rest goes on without the caller.
func (s *Supervisor) Reload(ctx context.Context, cfg ProvisionConfig) error {
	r, err := s.find(cfg.PoolID, cfg.ReplicaID)
	if err != nil {
		return err
	}
	if err := cfg.Validate(r.opts...); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	if cfg.StateDir != r.config().StateDir {
		return fmt.Errorf("cannot reload %s: a replica keeps its state directory", r.name)
	}
	if err := r.rehearse(ctx, cfg); err != nil {
		return err
	}
	done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	return s.replace(ctx, r, cfg)
}

// reload is Reload of a checked configuration, for who has begun a change.
func (s *Supervisor) reload(ctx context.Context, r *replica, cfg ProvisionConfig) error {
	if err := r.rehearse(ctx, cfg); err != nil {
		return err
	}
	return s.replace(ctx, r, cfg)
}

// replace gives a replica its new configuration when no other of its pool is missing. Those that somebody has stopped
// are not missed.
func (s *Supervisor) replace(ctx context.Context, r *replica, cfg ProvisionConfig) error {
	for _, other := range s.all() {
		if other == r || other.config().PoolID != cfg.PoolID || other.history().Phase == PhaseStopped || !r.isReady() {
			continue
		}
		if err := other.waitReady(ctx); err != nil {
			return fmt.Errorf("cannot reload %s while another replica of its pool is not ready: %w", r.name, err)
		}
	}
	return r.ask(ctx, order{kind: orderReload, cfg: cfg, ctx: ctx})
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

// rehearse does what a start can do while another engine runs.
func (r *replica) rehearse(ctx context.Context, cfg ProvisionConfig) error {
	ctx, cancel := r.within(ctx)
	defer cancel()
	p, err := New(cfg, r.opts...)
	var prepared Prepared
	if err == nil {
		prepared, err = p.prepared(ctx)
	}
	if err == nil {
		_, err = p.opts.plan(ctx, p.cfg, prepared)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot reload %s, nothing was changed: %w", r.name, err)
	}
	return nil
}

// differs is by what the launch differs from the present settings.
func (r *replica) differs() []Difference {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outdated
}

// isOutdated reports whether the launch was made with other settings than the present ones.
func (r *replica) isOutdated() bool { return len(r.differs()) > 0 }

// changes reports whether a launch by cfg would differ from the present one.
func (r *replica) changes(ctx context.Context, cfg ProvisionConfig) bool {
	r.mu.Lock()
	present, launch, outdated := r.cfg, r.launch, r.outdated
	r.mu.Unlock()
	cfg = cfg.withDefaults()
	present.origin, cfg.origin = nil, nil
	if len(outdated) > 0 || !reflect.DeepEqual(present, cfg) {
		return true
	}
	if launch == nil || launch.Status().State.Final() {
		return false
	}
	launch.mu.Lock()
	run := launch.run
	launch.mu.Unlock()
	if run == nil {
		return false
	}
	ctx, cancel := r.within(ctx)
	defer cancel()
	differs, _, err := r.tell.differences(ctx, cfg, run.rec)
	return err == nil && len(differs) > 0
}

// obeyReload ends launch p, which is nil when there is none, and makes the new settings the present ones.
func (r *replica) obeyReload(o order, p *EngineProvisioner) {
	r.dropReload(errors.New("another reload took its place"))
	r.reload = &reload{reply: o.reply}
	r.update(func() { r.cfg = o.cfg })
	if p != nil {
		if err := p.Stop(o.ctx); err != nil && !errors.Is(err, ErrKilled) {
			r.settleReload(err)
		}
	}
	r.judge(happened(restart.Wanted))
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
	case outcome == nil:
		l.reply <- fmt.Errorf("cannot reload %s, the old settings are back: %w", r.name, l.failed)
	case l.failed != nil:
		l.reply <- fmt.Errorf("cannot reload %s, and the old settings do not work any more: %w", r.name, errors.Join(l.failed, outcome))
	case r.proven == nil:
		l.reply <- fmt.Errorf("cannot reload %s, and no other settings were ready before: %w", r.name, outcome)
	default:
		l.failed = outcome
		r.update(func() { r.cfg = *r.proven })
		return true // the phase is still running: the old settings are launched next
	}
	r.reload = nil
	return false
}
