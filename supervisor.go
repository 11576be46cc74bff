package provisioner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Supervisor keeps replicas alive: it starts their engines, watches them, and starts them again by the rules of
// [RestartConfig]. Its methods are safe for concurrent use. It holds the state directory until Stop or Release: there is
// one manager for a directory.
//
// The engines are no part of the program's life. When the program dies, they go on, and the next Supervisor for the
// same state directory adopts them.
type Supervisor struct {
	manager *Manager
	state   string   // the state directory
	opts    []Option // of the launches
	log     *slog.Logger
	tell    func(Event)
	// attempts are the present ones, by ReplicaID. Events of launches get theirs here: those come under the launch's lock, and
	// a replica asks its launch for its status under its own.
	attempts sync.Map
	feed     feed
	inbox    *inbox
	kept     chan struct{} // closed when all events are in the file
	since    uint64        // this manager's events have larger numbers

	changing chan struct{} // holds one token during a change: one at a time, so that a pool never lacks more than one replica
	done     chan struct{}
	ended    error // what the first Stop or Release returned; fixed once done is closed

	mu       sync.Mutex
	replicas []*replica // in the order of the configuration; replaced as a whole
	ending   *order     // of the first Stop or Release: no replica is added any more; nil before it
}

// Supervise takes over the state directory that the replicas share, recovers what an earlier manager left there (see
// [Recover]), adopts those of its engines that are among cfgs, and starts the others. It returns when every replica is
// being taken care of, which is before they are ready; see WaitReady. ctx bounds this call alone. For another manager to
// let go of the directory it waits 2 seconds.
//
// An adopted engine that was launched differently from its present configuration goes on and is marked as outdated in
// Status, until it is replaced by Reload. Adopted engines that are not among cfgs are let go: they run on. A replica that was
// stopped by StopReplica or another command, while an earlier Supervisor looked after it, stays stopped until Reset or
// Reload; WaitReady does not wait for it. An engine that another program is stopping is started when that is over. The error is
// a *ConfigError, a *LockedError when another manager has the state directory, or ctx's cause: then all engines are let
// go.
func Supervise(ctx context.Context, cfgs []ProvisionConfig, opts ...Option) (*Supervisor, error) {
	s := &Supervisor{opts: opts, changing: make(chan struct{}, 1), kept: make(chan struct{}), done: make(chan struct{})}
	cfgs, dir, err := s.checked(cfgs)
	if err != nil {
		return nil, err
	}
	if s.manager, err = Manage(dir); err != nil {
		return nil, err
	}
	s.state = s.manager.StateDir()
	s.inbox = newInbox(s, newOptions(opts).reload)
	s.observe(opts)
	found, err := s.manager.Recover(ctx, nil, s.opts...)
	if err != nil {
		s.letGo()
		return nil, err
	}
	_ = s.launch(s.takeOn(ctx, cfgs, found), cfgs) // it is not ending
	s.inbox.start()
	return s, nil
}

// takeOn makes the replicas of cfgs, with those of the launches that are theirs. The others are let go, but for those whose
// stop has to be finished.
func (s *Supervisor) takeOn(ctx context.Context, cfgs []ProvisionConfig, found []Recovered) []*replica {
	left := map[ReplicaID]Recovered{}
	for _, f := range found {
		left[ReplicaID{f.Pool, f.Replica}] = f
	}
	replicas := make([]*replica, len(cfgs))
	configured := map[ReplicaID]*replica{}
	for i, cfg := range cfgs {
		r := newReplica(s, cfg)
		switch f := left[cfg.id()]; {
		case f.Launch == nil:
		case f.Result == RecoveredAdopted:
			r.adopt(ctx, f.Launch)
		default:
			r.finish(f.Launch)
		}
		replicas[i], configured[cfg.id()] = r, r
	}
	for _, f := range found {
		e := recoveryEvent(f)
		r := configured[ReplicaID{f.Pool, f.Replica}]
		switch {
		case f.Launch == nil || f.Result != RecoveredAdopted:
		case r == nil:
			e.Message = "left alone: it is not among the replicas to take care of"
		default:
			// Whoever follows the events alone learns here what an event of a new launch would say.
			now := r.launch.Status()
			e.State, e.LaunchID = now.State, now.LaunchID
			if h, ready := r.launch.Handoff(); ready {
				e.Handoff = &h
			}
			e.Err = r.lacking
		}
		s.tell(e)
	}
	for _, r := range replicas {
		r.announce()
	}
	for _, f := range found {
		switch {
		case f.Launch == nil || configured[ReplicaID{f.Pool, f.Replica}] != nil:
		case f.Result == RecoveredAdopted:
			f.Launch.Release()
		default:
			s.inbox.work.Go(func() { _ = f.Launch.Stop(context.Background()) }) // its events tell
		}
	}
	return replicas
}

// all are the present replicas.
func (s *Supervisor) all() []*replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replicas
}

// WaitReady returns when every replica has been ready, or with the first failure of one that has not been yet; a *GPUError
// among them is of an adopted engine that serves, and does not meet "gpu: required". The supervisor goes on in either case. One that Apply removes meanwhile is not waited for, nor is one that it adds.
func (s *Supervisor) WaitReady(ctx context.Context) error {
	replicas := s.all()
	errs := make(chan error, len(replicas))
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for _, r := range replicas {
		all.Go(func() { errs <- r.waitReady(ctx) })
	}
	for range replicas {
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
		replicas := s.all()
		for _, r := range replicas {
			ended, err := r.waitEnd(ctx)
			if !ended {
				return context.Cause(ctx)
			}
			failed = append(failed, err)
		}
		if errors.Is(s.over(), ErrReleased) {
			return ErrReleased
		}
		// One that ended early may have been reset meanwhile, and a change that is under way may start others.
		done, err := s.begin(ctx)
		if err != nil {
			return err
		}
		rest := slices.Equal(replicas, s.all()) && !slices.ContainsFunc(replicas, func(r *replica) bool { return !r.atRest() })
		done()
		if rest {
			return errors.Join(failed...)
		}
	}
}

// Status returns where the replicas stand, in the order of the configuration. It also works after the supervisor has ended.
func (s *Supervisor) Status() []Status {
	replicas := s.all()
	all := make([]Status, len(replicas))
	for i, r := range replicas {
		all[i] = r.status()
	}
	return all
}

// Reset forgets the failures of a replica and starts it at once if it waits, was given up, or was stopped. It returns when
// the start has been ordered, which a stop or reload that is under way delays; ctx bounds that. The error is ErrNotFound,
// ctx's cause, or ErrStopped or ErrReleased when the supervisor has ended.
func (s *Supervisor) Reset(ctx context.Context, pool, replica string) error {
	r, err := s.find(pool, replica)
	if err != nil {
		return err
	}
	return r.ask(ctx, order{kind: orderReset})
}

// StopReplica stops a replica's engine, as [EngineProvisioner.Stop] does, with the same errors, and leaves the replica so
// until Reset or Reload, also under the next Supervisor. When ctx ends, the stop goes on without the caller. ErrNotFound says that
// there is no such replica. Stopping one that is stopped already does nothing.
func (s *Supervisor) StopReplica(ctx context.Context, pool, replica string) error {
	return s.StopReplicaWith(ctx, pool, replica, StopOptions{})
}

// StopReplicaWith is StopReplica within limits of its own.
func (s *Supervisor) StopReplicaWith(ctx context.Context, pool, replica string, limits StopOptions) error {
	r, err := s.find(pool, replica)
	if err == nil {
		err = limits.Validate()
	}
	if err != nil {
		return err
	}
	return r.insist(ctx, order{kind: orderStop, stop: limits})
}

// KillReplica is StopReplica as [EngineProvisioner.Kill] does it: a stop that is under way is cut short.
func (s *Supervisor) KillReplica(ctx context.Context, pool, replica string) error {
	r, err := s.find(pool, replica)
	if err != nil {
		return err
	}
	r.hurry()
	return r.insist(ctx, order{kind: orderStop, stop: atOnce()})
}

func (s *Supervisor) find(pool, id string) (*replica, error) {
	replicas := s.all()
	i := slices.IndexFunc(replicas, func(r *replica) bool { return r.name == pool+"/"+id })
	if i < 0 {
		return nil, fmt.Errorf("%w: no replica %s/%s is supervised", ErrNotFound, pool, id)
	}
	return replicas[i], nil
}

// observe has events go to the readers and the file, too.
func (s *Supervisor) observe(opts []Option) {
	o := newOptions(opts)
	s.log = o.logger
	s.tell = func(e Event) { o.onEvent(s.feed.publish(e)) }
	s.opts = append(slices.Clone(opts), WithEventFunc(func(e Event) {
		if n, known := s.attempts.Load(ReplicaID{e.Pool, e.Replica}); known {
			e.Attempt = n.(int)
		}
		s.tell(e)
	}))
	file := eventFile{dir: s.state}
	s.since = file.nextSeq()
	s.feed.seq = s.since
	events := s.feed.subscribe(context.Background())
	go func() {
		defer close(s.kept)
		file.keep(events, func(err error) {
			message := err.Error() + "; events go on without the file"
			s.log.Warn(message)
			s.tell(Event{Time: time.Now().UTC(), Kind: EventNote, Message: message})
		})
	}()
}

// Events returns a channel of all events from now on, of all replicas, in order for each. What was before, Status
// tells, or WithEventFunc, which misses nothing. The channel is closed when ctx ends, or after the last event when the
// supervisor has ended. Neither engines nor the supervisor wait for its reader: one that lags by more than 256 events
// misses the oldest of them, and Missed of the next event says how many. Whoever stops reading ends ctx.
func (s *Supervisor) Events(ctx context.Context) <-chan Event { return s.feed.subscribe(ctx) }

// EventsAfter is Events for who has seen those up to a number, of an earlier supervisor of the state directory, too: it
// begins with what is kept of later ones, and goes on without gap or double. 0 means all that are kept.
func (s *Supervisor) EventsAfter(ctx context.Context, seq uint64) <-chan Event {
	before, live := s.feed.join(ctx) // first: what is not in the file yet, the feed has
	out := make(chan Event)
	deliver := func(e Event) bool {
		if e.Seq != 0 && e.Seq <= seq {
			return true
		}
		if e.Seq > s.since && seq >= s.since { // numbers of one manager follow each other
			e.Missed = int(e.Seq - seq - 1)
		}
		seq = max(seq, e.Seq)
		select {
		case out <- e:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(out)
		for e, err := range ReadEvents(ctx, s.state, false) {
			switch {
			case err != nil, e.Seq == 0: // what cannot be read is told by ReadEvents
			case len(before) > 0 && e.Seq >= before[0].Seq:
			case !deliver(e):
				return
			}
		}
		for _, e := range before {
			if !deliver(e) {
				return
			}
		}
		for e := range live {
			if !deliver(e) {
				return
			}
		}
	}()
	return out
}

// Snapshot returns where the replicas stand, as Status does, and the number of the last event that is certainly in it: what
// follows comes from EventsAfter that number.
func (s *Supervisor) Snapshot() ([]Status, uint64) {
	seq := s.feed.last()
	return s.Status(), seq
}

// LogDir returns the folder of a replica's logs, which is there from its first launch on. The error is ErrNotFound.
func (s *Supervisor) LogDir(pool, replica string) (string, error) {
	r, err := s.find(pool, replica)
	if err != nil {
		return "", err
	}
	return r.files.Logs(), nil
}

// Done returns a channel that is closed when the supervisor has ended, by Stop or Release.
func (s *Supervisor) Done() <-chan struct{} { return s.done }
