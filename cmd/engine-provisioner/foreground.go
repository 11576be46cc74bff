package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/repeat"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/fleet/metrics"
	"github.com/llama-orch/engine-provisioner/internal/runs"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/web"
)

// runFlags are the flags of a run.
type runFlags struct {
	detach  bool // leave the engines alone once they are ready
	stopped bool // start also what a command has stopped
	keep    bool // go on where some replicas do not start
	replace bool // engines that were launched differently from the configuration
	http    httpFlags
}

func (f *runFlags) add(cmd *cobra.Command, c *cli) {
	cmd.Flags().BoolVar(&f.detach, "detach", false, "leave the engines running when they are ready, and return")
	cmd.Flags().BoolVar(&f.replace, "replace-outdated", false, "replace engines that run with other settings than these")
	cmd.Flags().BoolVar(&f.keep, "keep-going", os.Getenv("NOTIFY_SOCKET") != "",
		"leave the ready replicas up when others do not start, and try those again; the default under systemd")
	f.http.add(cmd)
	cmd.Flags().StringVar(&c.terminationLog, "termination-log", "",
		"a file to leave the cause in when it fails, in a pod /dev/termination-log")
	_ = cmd.MarkFlagFilename("termination-log")
}

// source is where a run has its configuration from, and what it is when somebody asks for it again.
type source interface {
	toRun() ([]provisioner.ProvisionConfig, error)
	reload() ([]provisioner.ProvisionConfig, error)
	file() string // the absolute path of the pools file; "" when there is none
}

// runReplicas is the main job: start or adopt all chosen replicas, wait until they are ready, keep them alive, stop them.
func (c *cli) runReplicas(ctx context.Context, flags runFlags, from source) error {
	if err := flags.http.check(flags.detach); err != nil {
		return err
	}
	configs, err := from.toRun()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(configs, dies); flags.detach && i >= 0 {
		return &usageError{err: fmt.Errorf("%s would die with this command, by its \"on_manager_exit: kill\"; leave out --detach", configs[i].Name())}
	}
	if !flags.keep { // else what is wrong with one is no matter of the others
		if err := c.checkAll(ctx, configs); err != nil {
			return err
		}
	}
	face, err := listenHTTP(ctx, flags.http)
	if err != nil {
		return err
	}
	defer face.close()
	show := c.newReporter()
	defer show.close()
	if flags.keep {
		show.steady("")
	}
	manager, err := newNotifier()
	if err != nil {
		show.say("note: " + err.Error())
	}
	defer manager.close()
	s := &session{
		cli: c, show: show, manager: manager, configs: configs, from: from, flags: flags, face: face, counts: metrics.New(),
		logs: repeat.New(c.logLine, c.say), happened: make(chan struct{}, 1), given: map[string]error{}, lacking: map[string]error{},
	}
	err = s.run(ctx)
	if len(configs) == 1 {
		c.tellRest(ctx, configs[0], err)
	}
	return err
}

// tellRest tells what else is wrong with a replica that could not be started: whoever mends one thing after the other would start
// it as many times.
func (c *cli) tellRest(ctx context.Context, config provisioner.ProvisionConfig, err error) {
	_, start := errors.AsType[*provisioner.StartError](err)
	_, gpu := errors.AsType[*provisioner.GPUError](err)
	if !start && !gpu || ctx.Err() != nil {
		return
	}
	told := failureOf(err).Cause
	for _, more := range problems(ctx, config, err) {
		if same := failureOf(more).Cause; !strings.Contains(err.Error(), more.Error()) && (same == "" || same != told) {
			c.reportError(about(config.Name(), more))
		}
	}
}

// dies reports whether a replica's engine ends with this program.
func dies(config provisioner.ProvisionConfig) bool { return config.OnManagerExit == "kill" }

// checkAll finds out what is wrong with any replica before the first one is started.
func (c *cli) checkAll(ctx context.Context, configs []provisioner.ProvisionConfig) error {
	if len(configs) == 1 {
		return nil // its start finds it out
	}
	return c.checkEach(ctx, configs)
}

// checkEach finds out what is wrong with any replica, without starting one.
func (c *cli) checkEach(ctx context.Context, configs []provisioner.ProvisionConfig) error {
	errs := make([][]error, len(configs))
	var all sync.WaitGroup
	for i, config := range configs {
		all.Go(func() {
			_, err := node.Plan(ctx, config, withContainers()...)
			if err == nil {
				return
			}
			for _, err := range problems(ctx, config, err) {
				errs[i] = append(errs[i], about(config.Name(), err))
			}
		})
	}
	all.Wait()
	if err := interruption(ctx); err != nil {
		return err
	}
	return c.reportAll(slices.Concat(errs...))
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
	show    *reporter
	manager *notifier
	configs []provisioner.ProvisionConfig
	from    source
	flags   runFlags
	face    *httpServer // nil: nothing is served
	counts  *metrics.Collector
	engines *fleet.Fleet
	logs    *repeat.Logs

	happened chan struct{} // holds one token when there was an event

	mu      sync.Mutex
	given   map[string]error // replicas that were given up, by name
	lacking map[string]error // adopted replicas without the GPU that they require
	goesOn  bool             // a preparation has told how far it is
	adopted bool             // an earlier run's engine
}

func (s *session) run(ctx context.Context) error {
	o := fleet.Options{OnEvent: s.event, Configs: s.from.reload, ConfigFile: s.from.file(), Launch: withContainers()}
	engines, err := fleet.Open(ctx, o, s.configs...)
	if err != nil {
		return errors.Join(interruption(ctx), err)
	}
	s.engines = engines
	if s.configFile != "" && s.configFile != stdin {
		if err := runs.Note(s.configFile, engines.StateDir()); err != nil { // it serves all the same
			s.show.say("note: " + err.Error())
		}
	}
	s.show.watch(engines)
	defer func() { s.logs.Look(engines, engines.Status()); s.logs.Close() }()
	s.startStopped(ctx)
	if s.face != nil {
		s.counts.Watch(engines)
		s.show.say(s.face.serve(web.New(engines, web.Options{Tokens: s.face.tokens, Metrics: metricsHandler(s.counts)})))
	}
	failed := s.start(ctx)
	switch {
	case failed == nil:
	case !s.goesOnWithout() || interruption(ctx) != nil:
		stopped := s.stopAll()
		if interruption(ctx) == nil {
			s.why("", failed)
		}
		return errors.Join(failed, stopped)
	case s.flags.detach:
		return errors.Join(failed, s.leaveReady())
	}
	if s.flags.detach && interruption(ctx) == nil {
		return s.release()
	}
	now := readyOf(engines.Status())
	s.show.steady(now)
	s.manager.ready(now)
	ended := make(chan error, 1)
	waiting, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { ended <- engines.Wait(waiting) }()
	for {
		select {
		case <-s.manager.due():
			s.manager.alive()
		case <-s.happened:
			s.heed()
		case err := <-ended: // nothing runs any more, nor will
			if err != nil {
				err = &toldError{err}
			}
			stopped := s.stopAll()
			s.why("no replica runs any more, nor will by itself", err)
			return errors.Join(err, stopped)
		case <-ctx.Done():
			s.show.say("stopping")
			return errors.Join(s.failures(), s.stopAll())
		}
	}
}

// start waits until all replicas are ready. The first failure ends the run: whoever starts engines by hand or from a
// script wants to know, and not to be retried for. A run that took over engines, or is told to keep going, goes on: they
// serve, and must not fall with a replica that does not start.
func (s *session) start(ctx context.Context) error {
	err := s.awaitReady(ctx)
	if err != nil && s.flags.keep {
		s.awaitSettled(ctx)
	}
	if s.flags.replace && (err == nil || s.isLacking(err)) {
		if err = s.replaceOutdated(ctx); err != nil && interruption(ctx) == nil {
			return &toldError{err} // the old engines serve, but that is not what was asked for
		}
	}
	switch stopped := interruption(ctx); {
	case err == nil:
		return nil
	case s.allServe() && !errors.Is(err, provisioner.ErrStopped): // who has seen that may interrupt before this function has
		return s.failures()
	case stopped != nil:
		return stopped
	case errors.Is(err, provisioner.ErrStopped): // which is no failure, and so no event of a restart
		s.show.fail(err)
	}
	return &toldError{err} // by its event
}

func (s *session) awaitReady(ctx context.Context) error {
	began := make(chan error, 1)
	go func() { began <- s.engines.WaitReady(ctx) }()
	for {
		select {
		case err := <-began:
			return err
		case <-s.happened:
			s.heed()
			if s.preparing() {
				s.manager.preparing(s.startTime())
			}
		}
	}
}

// awaitSettled waits until each replica is ready or has failed once, of which one has.
func (s *session) awaitSettled(ctx context.Context) {
	loads := func(status provisioner.Status) bool {
		r := status.Restarts
		return status.State != provisioner.StateReady && r != nil && r.Phase == report.PhaseRunning && r.Attempts == 0
	}
	for slices.ContainsFunc(s.engines.Status(), loads) {
		select {
		case <-ctx.Done():
			return
		case <-s.happened:
			s.heed()
			if s.preparing() {
				s.manager.preparing(s.startTime())
			}
		}
	}
}

// replaceOutdated gives the adopted engines the present configuration, one after the other.
func (s *session) replaceOutdated(ctx context.Context) error {
	results, err := s.engines.Apply(ctx, s.configs)
	for _, r := range results {
		err = cmp.Or(err, r.Err)
	}
	if err != nil && interruption(ctx) == nil {
		s.show.fail(err)
	}
	return err
}

// event is told of everything that happens to the engines.
func (s *session) event(e provisioner.Event) {
	s.counts.Observe(e)
	s.mu.Lock()
	switch {
	case e.Kind == provisioner.EventRestart && e.Restarts.Phase == report.PhaseFailed:
		s.given[e.Pool+"/"+e.Replica] = e.Err
	case e.Kind == provisioner.EventProgress:
		s.goesOn = true
	case e.Kind == provisioner.EventRecovery && e.Recovery == report.RecoveredAdopted && e.State != "": // one without a state is not of this run
		s.adopted = true
		if e.Err != nil {
			s.lacking[e.Pool+"/"+e.Replica] = e.Err
		}
	}
	s.mu.Unlock()
	s.show.event(e)
	select {
	case s.happened <- struct{}{}:
	default:
	}
}
