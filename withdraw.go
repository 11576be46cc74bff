package provisioner

import (
	"context"
	"fmt"
)

// Drain takes a ready engine out of service without stopping it: the handoff is removed, so that routers send it nothing
// more, and requests in flight are waited for, as long as a stop's drain would. The engine is ready all the while, and stays
// out of service until Resume or its end, also under the next manager. Hooks are left to the stop. It returns at once where
// nothing is in flight; what is left when the drain's time is over is told in a note.
//
// When ctx ends, the handoff stays away, and the error wraps ctx's cause. For a launch that is not ready it is ErrNotReady.
func (p *EngineProvisioner) Drain(ctx context.Context) error {
	r, err := p.withdraw(true)
	if err != nil {
		return fmt.Errorf("cannot drain %s: %w", p.cfg.Name(), err)
	}
	p.unpublish()
	p.note("it is taken out of service: its handoff is removed, and its engine runs on")
	waiting, end := p.drainContext(r)
	defer end()
	over := make(chan struct{})
	go func() {
		defer close(over)
		p.awaitIdle(waiting, r)
	}()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no longer waiting for the requests of %s, which is out of service: %w", p.cfg.Name(), context.Cause(ctx))
	}
}

// Resume puts an engine into service again that Drain has taken out: its handoff is there when it returns. One that is in
// service is left alone. For a launch that is not ready the error is ErrNotReady.
func (p *EngineProvisioner) Resume() error {
	was := p.isWithdrawn()
	r, err := p.withdraw(false)
	if err == nil && was {
		h, _ := p.Handoff()
		p.publishing.Lock()
		_, err = r.rewrite(h, p.admitted())
		p.publishing.Unlock()
	}
	if err != nil {
		return fmt.Errorf("cannot resume %s: %w", p.cfg.Name(), err)
	}
	if was {
		p.note("it is in service again: its handoff is written")
	}
	return nil
}

// withdraw keeps whether a ready launch is out of service, here and in the record.
func (p *EngineProvisioner) withdraw(out bool) (*run, error) {
	if _, ready := p.Handoff(); !ready || !p.Running() {
		return nil, ErrNotReady
	}
	ending := false
	err := changeRecord(p.run.files, func(current record, err error) (record, bool) {
		ending = err == nil && (current.LaunchID != p.run.rec.LaunchID || current.Desired != desiredRunning)
		current.Withdrawn = out
		return current, err == nil && !ending
	})
	if ending {
		err = fmt.Errorf("%w: %w", ErrNotReady, errEnding)
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.withdrawn = out
	return p.run, nil
}

// isWithdrawn reports whether the launch is out of service.
func (p *EngineProvisioner) isWithdrawn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.withdrawn
}
