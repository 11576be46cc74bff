package provisioner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Supervisor keeps replicas alive: it starts their engines, watches them, and starts them again by the rules of
// [RestartConfig]. Its methods are safe for concurrent use. It holds the state directory until Stop or Release: there is
// one manager for a directory.
//
// The engines are no part of the program's life. When the program dies, they go on, and the next Supervisor for the
// same state directory adopts them.
type Supervisor struct {
	lock     *fileLock
	replicas []*replica // in the order of the configuration
	feed     feed
	counts   *collector
	inbox    *inbox
	kept     chan struct{} // closed when all events are in the file

	reloading sync.Mutex            // one at a time, so that a pool never lacks more than one replica
	ending    atomic.Pointer[order] // the first Stop or Release
	ended     error                 // what it returned; fixed once done is closed
	done      chan struct{}
}

// Supervise takes over the state directory that the replicas share, recovers what an earlier manager left there (see
// [Recover]), adopts those of its engines that are among cfgs, and starts the others. It returns when every replica is
// being taken care of, which is before they are ready; see WaitReady. ctx bounds this call alone.
//
// An adopted engine that was launched differently from its present configuration goes on and is marked as outdated in
// Status, until it is replaced by Reload. Adopted engines that are not among cfgs are let go: they run on. The error is
// a *ConfigError, a *LockedError when another manager has the state directory, or ctx's cause: then all engines are let
// go.
func Supervise(ctx context.Context, cfgs []ProvisionConfig, opts ...Option) (*Supervisor, error) {
	if len(cfgs) == 0 {
		return nil, errors.New("cannot supervise: no replica is configured")
	}
	if problems := checkReplicas(cfgs); len(problems) > 0 {
		return nil, &ConfigError{Problems: problems}
	}
	cfgs = slices.Clone(cfgs) // the caller's stay as they are
	for i, cfg := range cfgs {
		if err := cfg.Validate(opts...); err != nil {
			return nil, err
		}
		cfgs[i] = cfg.withDefaults()
		if cfgs[i].StateDir != cfgs[0].StateDir {
			return nil, fmt.Errorf("cannot supervise: %s and %s have different state directories; use one Supervisor for each",
				cfgs[0].Name(), cfg.Name())
		}
	}
	files, err := filesOf(cfgs[0].StateDir, cfgs[0].fileStem())
	if err != nil {
		return nil, err
	}
	if err := files.create(); err != nil {
		return nil, err
	}
	lock, err := lockManager(files.state)
	if err != nil {
		return nil, err
	}
	s := &Supervisor{lock: lock, kept: make(chan struct{}), done: make(chan struct{})}
	s.inbox = newInbox(s, files.state, newOptions(opts).reload)
	s.counts = newCollector(s)
	opts = s.observe(files.state, opts)
	tell := newOptions(opts)
	adopted, found, err := recoverAll(ctx, files.state, tell)
	if err != nil {
		s.letGo()
		return nil, err
	}
	configured := map[string]bool{}
	for _, cfg := range cfgs {
		configured[cfg.fileStem()] = true
	}
	for _, f := range found {
		s.counts.adoption(f.Result)
		e, stem := f.event(), f.Pool+"-"+f.Replica
		switch p := adopted[stem]; {
		case p == nil:
		case !configured[stem]:
			e.Message = "left alone: it is not among the replicas to take care of"
		default:
			// Whoever follows the events alone learns here what an event of a new launch would say.
			e.State, e.LaunchID, e.Handoff = p.standing()
		}
		tell.onEvent(e)
	}
	for _, cfg := range cfgs {
		r := newReplica(cfg, replicaFiles{state: files.state, stem: cfg.fileStem()}, opts)
		if p := adopted[cfg.fileStem()]; p != nil {
			r.adopt(ctx, p)
			delete(adopted, cfg.fileStem())
		}
		r.announceWait()
		s.replicas = append(s.replicas, r)
	}
	for _, p := range adopted {
		p.Release()
	}
	for _, r := range s.replicas {
		go r.run()
	}
	s.inbox.start()
	return s, nil
}

// WaitReady returns when every replica has been ready, or with the first failure of one that has not been yet. The
// supervisor goes on in either case.
func (s *Supervisor) WaitReady(ctx context.Context) error {
	errs := make(chan error, len(s.replicas))
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for _, r := range s.replicas {
		all.Go(func() { errs <- r.waitReady(ctx) })
	}
	for range s.replicas {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// Wait returns when no replica runs any more, nor will by itself: each was given up, or stopped by another command. The
// error joins why each was given up; it is nil when all were stopped. When ctx ends first, it is ctx's cause, and
// ErrReleased after Release.
func (s *Supervisor) Wait(ctx context.Context) error {
	for {
		var failed []error
		for _, r := range s.replicas {
			ended, err := r.waitEnd(ctx)
			if !ended {
				return context.Cause(ctx)
			}
			failed = append(failed, err)
		}
		if o := s.ending.Load(); o != nil && o.kind == orderRelease {
			return ErrReleased
		}
		// One that ended early may have been reset meanwhile.
		if !slices.ContainsFunc(s.replicas, func(r *replica) bool { return !r.atRest() }) {
			return errors.Join(failed...)
		}
	}
}

// Status tells where the replicas stand, in the order of the configuration.
func (s *Supervisor) Status() []Status {
	all := make([]Status, len(s.replicas))
	for i, r := range s.replicas {
		all[i] = r.status()
	}
	return all
}

// Reset forgets the failures of a replica and starts it at once if it waits, was given up, or was stopped.
func (s *Supervisor) Reset(ctx context.Context, pool, replica string) error {
	r, err := s.find(pool, replica)
	if err != nil {
		return err
	}
	return r.ask(ctx, order{kind: orderReset})
}

// StopReplica stops a replica's engine, as [EngineProvisioner.Stop] does, and leaves the replica so until Reset or Reload.
func (s *Supervisor) StopReplica(ctx context.Context, pool, replica string) error {
	r, err := s.find(pool, replica)
	if err != nil {
		return err
	}
	return r.ask(ctx, order{kind: orderStop, ctx: ctx})
}

func (s *Supervisor) find(pool, id string) (*replica, error) {
	i := slices.IndexFunc(s.replicas, func(r *replica) bool { return r.name == pool+"/"+id })
	if i < 0 {
		return nil, fmt.Errorf("%w: no replica %s/%s is supervised", ErrNotFound, pool, id)
	}
	return s.replicas[i], nil
}

// Stop stops all engines at once, each as [EngineProvisioner.Stop] does, and gives the state directory back. ctx bounds
// the drain and the grace of each. The error joins those of the replicas, but for ErrKilled where another is wrong.
// Stopping again waits for the first and returns the same; the end of its context counts as well. After Release the
// error is ErrReleased: the engines run on.
func (s *Supervisor) Stop(ctx context.Context) error { return s.end(order{kind: orderEnd, ctx: ctx}) }

// Release gives the state directory back and lets the engines run on, for another Supervisor to adopt. Those that are
// not ready are stopped: nobody would tell when they are. The error is about them. Releasing again returns the same; after
// Stop there is nothing to release, and the error is nil.
func (s *Supervisor) Release() error {
	return s.end(order{kind: orderRelease, ctx: context.Background()})
}

// end sends every replica its last order. Only the first call does; others wait for it.
func (s *Supervisor) end(o order) error {
	first := s.ending.CompareAndSwap(nil, &o)
	switch ending := s.ending.Load().kind; {
	case o.kind == ending:
	case ending == orderRelease:
		<-s.done
		return ErrReleased
	default:
		<-s.done
		return nil
	}
	// A replica may be in the middle of a stop of its own, for a reload say, and hear of no order until that is over.
	unhurry := context.AfterFunc(o.ctx, func() {
		for _, r := range s.replicas {
			r.hurry(o.ctx)
		}
	})
	defer unhurry()
	if !first {
		<-s.done
		return s.ended
	}
	s.inbox.leave()
	errs := make([]error, len(s.replicas))
	var all sync.WaitGroup
	for i, r := range s.replicas {
		all.Go(func() { errs[i] = r.ask(context.Background(), o) })
	}
	all.Wait()
	s.inbox.work.Wait()
	s.letGo()
	failed := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil || errors.Is(err, ErrKilled) })
	if len(failed) == 0 {
		failed = errs // a kill is told where nothing else is wrong
	}
	s.ended = errors.Join(failed...)
	close(s.done)
	return s.ended
}

// keepPatience is how long the end of a supervisor waits for the file of events: a disk can hang.
const keepPatience = 2 * time.Second

// letGo gives the state directory back, with all events in its file.
func (s *Supervisor) letGo() {
	s.feed.close()
	select {
	case <-s.kept:
	case <-time.After(keepPatience):
	}
	s.lock.release()
}

// observe adds to opts that events go to the counts, the readers and the file, too.
func (s *Supervisor) observe(stateDir string, opts []Option) []Option {
	tell := newOptions(opts)
	publish := func(e Event) {
		s.counts.count(e)
		s.feed.publish(e)
		tell.onEvent(e)
	}
	file := eventFile{dir: stateDir}
	events := s.feed.subscribe(context.Background())
	go func() {
		defer close(s.kept)
		file.keep(events, func(err error) {
			message := err.Error() + "; events go on without the file"
			tell.logger.Warn(message)
			publish(Event{Time: time.Now().UTC(), Kind: EventNote, Message: message})
		})
	}()
	return append(slices.Clone(opts), WithEventFunc(publish))
}

// Events gives all events from now on, of all replicas, in order for each; what was before, Status tells. The channel
// is closed when ctx ends, or after the last event when the supervisor has ended. Neither engines nor the supervisor
// wait for its reader: one that lags by more than 256 events misses the oldest of them, and Missed of the next event
// says how many. Whoever stops reading ends ctx.
func (s *Supervisor) Events(ctx context.Context) <-chan Event { return s.feed.subscribe(ctx) }

// Done is closed when the supervisor has ended.
func (s *Supervisor) Done() <-chan struct{} { return s.done }
