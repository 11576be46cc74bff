package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// launch is one replica of a run.
type launch struct {
	*provisioner.EngineProvisioner
	name string
}

// news is what became of a launch.
type news struct {
	launch *launch
	err    error
	died   bool // after it was ready; err is nil when another command stopped it
}

// errOtherFailed ends the loads of a run in which one replica has failed.
var errOtherFailed = errors.New("another replica failed")

// runReplicas is the main job: start all chosen replicas, wait until they are ready, watch them, stop them.
func (c *cli) runReplicas(ctx context.Context, detach bool, metricsAddr string) error {
	if detach && metricsAddr != "" {
		return &usageError{err: errors.New("--metrics-addr needs a run that stays; leave out --detach")}
	}
	configs, err := c.load()
	if err != nil {
		return err
	}
	if err := c.checkAll(ctx, configs); err != nil {
		return err
	}
	var metrics net.Listener
	if metricsAddr != "" {
		if metrics, err = listenMetrics(ctx, metricsAddr); err != nil {
			return err
		}
	}
	show := c.newReporter()
	defer show.close()
	if metrics != nil {
		return c.supervise(ctx, configs, show, metrics)
	}
	launches := make([]*launch, len(configs))
	for i, config := range configs {
		p, err := provisioner.New(config, provisioner.WithEventFunc(show.event))
		if err != nil {
			return err
		}
		launches[i] = &launch{EngineProvisioner: p, name: config.Name()}
	}
	show.watch(launches)
	manager, err := newNotifier()
	if err != nil {
		show.say("note: " + err.Error())
	}
	defer manager.close()
	r := &session{
		cli: c, show: show, manager: manager, launches: launches, detach: detach, news: make(chan news, 2*len(launches)),
	}
	return r.run(ctx)
}

// checkAll finds out what is wrong with any replica before the first one is started.
func (c *cli) checkAll(ctx context.Context, configs []provisioner.ProvisionConfig) error {
	if len(configs) == 1 {
		return nil // its start finds it out
	}
	errs := make([]error, len(configs))
	var all sync.WaitGroup
	for i, config := range configs {
		all.Go(func() { _, errs[i] = provisioner.Plan(ctx, config) })
	}
	all.Wait()
	if err := interruption(ctx); err != nil {
		return err
	}
	return c.reportAll(errs)
}

// reportAll tells all errors, each text once, and returns the first.
func (c *cli) reportAll(errs []error) error {
	var first error
	seen := map[string]bool{}
	for _, err := range errs {
		if err == nil || seen[err.Error()] {
			continue
		}
		seen[err.Error()] = true
		c.reportError(err)
		if first == nil {
			first = &toldError{err}
		}
	}
	return first
}

// session is one run in the foreground.
type session struct {
	*cli
	show     *reporter
	manager  *notifier
	launches []*launch
	detach   bool
	news     chan news
	failed   error // the first failure
	ready    int   // launches that became ready
	alive    int   // those of them that have not ended
}

func (s *session) run(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		return errors.Join(err, s.stopAll())
	}
	if s.detach && interruption(ctx) == nil {
		return s.release()
	}
	s.manager.ready(s.standing())
	for s.alive > 0 {
		select {
		case <-s.manager.due():
			s.manager.alive()
		case n := <-s.news:
			s.note(n)
		case <-ctx.Done():
			s.show.say("stopping")
			return errors.Join(s.failed, s.stopAll())
		}
	}
	return s.failed
}

// standing says how many replicas are fit to be used.
func (s *session) standing() string {
	return fmt.Sprintf("%d of %d replicas ready", s.alive, len(s.launches))
}

// start starts all launches and returns when all are ready, or one has failed, or a signal has come.
func (s *session) start(ctx context.Context) error {
	loading, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	for _, l := range s.launches {
		go func() {
			err := l.Start(loading)
			if err == nil {
				_, err = l.WaitReady(loading)
			}
			s.news <- news{launch: l, err: err}
			if err == nil {
				<-l.Done()
				s.news <- news{launch: l, err: l.Err(), died: true}
			}
		}()
	}
	for pending := len(s.launches); pending > 0; {
		n := <-s.news
		if !n.died {
			pending--
		}
		switch {
		case n.err == nil || n.died && !s.detach:
			s.note(n)
		case !n.died && interruption(ctx) != nil: // the signal has ended its load
		default:
			if !errors.Is(n.err, errOtherFailed) {
				s.fail(n.err)
			}
			giveUp(errOtherFailed)
		}
	}
	// Who has seen that everything is ready may interrupt before this function has.
	switch err := interruption(ctx); {
	case errors.Is(context.Cause(loading), errOtherFailed):
		return s.failed
	case s.ready < len(s.launches):
		return err
	}
	return nil
}

// note takes in that a launch became ready or died; the others go on.
func (s *session) note(n news) {
	defer func() { s.manager.status(s.standing()) }()
	switch {
	case !n.died:
		s.ready++
		s.alive++
		return
	case n.err != nil && !errors.Is(n.err, provisioner.ErrReleased):
		s.fail(n.err)
	}
	s.alive--
}

// fail tells of a failure at once and remembers the first one, which decides the exit status.
func (s *session) fail(err error) {
	s.show.fail(err)
	if s.failed == nil {
		s.failed = &toldError{err}
	}
}

// release leaves the engines alone, unless one of them has died meanwhile.
func (s *session) release() error {
	for _, l := range s.launches {
		if err := l.Err(); err != nil {
			s.fail(err)
			return errors.Join(s.failed, s.stopAll())
		}
	}
	for _, l := range s.launches {
		l.Release()
	}
	return nil
}

// stopAll ends all launches at once. A second signal ends their grace.
func (s *session) stopAll() error {
	s.manager.stopping()
	errs := make([]error, len(s.launches))
	var all sync.WaitGroup
	for i, l := range s.launches {
		all.Go(func() { errs[i] = l.Stop(s.signals.hurried) })
	}
	all.Wait()
	var failed error
	for i, err := range errs {
		switch {
		case errors.Is(err, provisioner.ErrKilled):
			s.show.say(err.Error())
		case err != nil && !errors.Is(err, provisioner.ErrReleased):
			err = fmt.Errorf("%s: %w", s.launches[i].name, err)
			s.show.fail(err)
			failed = errors.Join(failed, &toldError{err})
		}
	}
	return failed
}
