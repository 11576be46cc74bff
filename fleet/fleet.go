package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Fleet keeps replicas alive: it starts their engines, watches them, and starts them again by the rules of
// [RestartConfig]. Its methods are safe for concurrent use. It holds the state directory until Stop or Release: there is
// one manager for a directory.
//
// The engines are no part of the program's life. When the program dies, they go on, and the next Fleet for the
// same state directory adopts them.
type Fleet struct {
	manager *provisioner.Manager
	state   string               // the state directory
	opts    []provisioner.Option // of the launches
	log     *slog.Logger
	tell    func(provisioner.Event)
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

// Options are how a fleet works, as opposed to what it runs. The zero value is good.
type Options struct {
	// StateDir is the state directory; "" means that of the first replica, or .runtime.
	StateDir string
	// Logger is where the fleet and its launches tell what they do; nil means nowhere.
	Logger *slog.Logger
	// OnEvent is called on every event, in order for each replica, and misses none; nil means nobody. A launch waits for it,
	// so it must return at once, and must not call the fleet.
	OnEvent func(provisioner.Event)
	// Configs lets other programs ask for a reload, see [RequestReload]: it gives the present configuration of all replicas.
	// With nil, such requests are refused.
	Configs func() ([]provisioner.ProvisionConfig, error)
	// Launch are the options of each launch, such as engines, launchers and hooks. The logger and the receiver of events are
	// the fleet's own.
	Launch []provisioner.Option
}

// Open takes over the state directory, recovers what an earlier manager left there (see [provisioner.Manager.Recover]),
// adopts those of its engines that are among cfgs, and starts the others of cfgs. It returns when every replica is being
// taken care of, which is before they are ready; see WaitReady. ctx bounds this call alone. For another manager to let go of
// the directory it waits 2 seconds.
//
// An adopted engine that was launched differently from its present configuration goes on and is marked as outdated in
// Status, until it is replaced by Reload. Adopted engines that are not among cfgs are let go: they run on, and Add adopts
// them. A replica that was stopped by Stop or another command, while an earlier Fleet looked after it, stays stopped until
// Start or Reload; WaitReady does not wait for it. An engine that another program is stopping is started when that is over.
// The error is a *ConfigError, a *LockedError when another manager has the state directory, or ctx's cause: then all engines
// are let go.
func Open(ctx context.Context, o Options, cfgs ...provisioner.ProvisionConfig) (*Fleet, error) {
	s := &Fleet{changing: make(chan struct{}, 1), kept: make(chan struct{}), done: make(chan struct{})}
	s.opts = o.Launch
	s.log = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	dir := o.StateDir
	if dir == "" && len(cfgs) > 0 {
		dir = cfgs[0].StateDir
	}
	dir, err := state.Dir(dir)
	if err != nil {
		return nil, err
	}
	s.state = dir
	if cfgs, err = s.checked(cfgs); err != nil {
		return nil, err
	}
	if s.manager, err = provisioner.Manage(dir); err != nil {
		return nil, err
	}
	s.inbox = newInbox(s, o.Configs)
	s.observe(o.OnEvent)
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
func (s *Fleet) takeOn(ctx context.Context, cfgs []provisioner.ProvisionConfig, found []provisioner.Recovered) []*replica {
	left := map[provisioner.ReplicaID]provisioner.Recovered{}
	for _, f := range found {
		left[provisioner.ReplicaID{Pool: f.Pool, Replica: f.Replica}] = f
	}
	replicas := make([]*replica, len(cfgs))
	configured := map[provisioner.ReplicaID]*replica{}
	for i, cfg := range cfgs {
		r := newReplica(s, cfg)
		switch f := left[idOf(cfg)]; {
		case f.Launch == nil:
		case f.Result == provisioner.RecoveredAdopted:
			r.adopt(ctx, f.Launch)
		default:
			r.finish(f.Launch)
		}
		replicas[i], configured[idOf(cfg)] = r, r
	}
	for _, f := range found {
		e := recoveryEvent(f)
		r := configured[provisioner.ReplicaID{Pool: f.Pool, Replica: f.Replica}]
		switch {
		case f.Launch == nil || f.Result != provisioner.RecoveredAdopted:
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
		case f.Launch == nil || configured[provisioner.ReplicaID{Pool: f.Pool, Replica: f.Replica}] != nil:
		case f.Result == provisioner.RecoveredAdopted:
			f.Launch.Release()
		default:
			s.inbox.work.Go(func() { _ = f.Launch.Stop(context.Background()) }) // its events tell
		}
	}
	return replicas
}

// all are the present replicas.
func (s *Fleet) all() []*replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replicas
}

// WaitReady returns when every replica has been ready, or with the first failure of one that has not been yet; a *GPUError
// among them is of an adopted engine that serves, and does not meet "gpu: required". The supervisor goes on in either case. One that Apply removes meanwhile is not waited for, nor is one that it adds.
func (s *Fleet) WaitReady(ctx context.Context) error {
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
func (s *Fleet) Wait(ctx context.Context) error {
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
		if errors.Is(s.over(), provisioner.ErrReleased) {
			return provisioner.ErrReleased
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
func (s *Fleet) Status() []provisioner.Status {
	replicas := s.all()
	all := make([]provisioner.Status, len(replicas))
	for i, r := range replicas {
		all[i] = r.status()
	}
	return all
}

// Reset forgets the failures of a replica and starts it at once if it waits, was given up, or was stopped. It returns when
// the start has been ordered, which a stop or reload that is under way delays; ctx bounds that. The error is ErrNotFound,
// ctx's cause, or ErrStopped or ErrReleased when the supervisor has ended.
func (s *Fleet) Reset(ctx context.Context, pool, replica string) error {
	r, err := s.find(pool, replica)
	if err != nil {
		return err
	}
	return r.ask(ctx, order{kind: orderReset})
}

// StopReplica stops a replica's engine, as [EngineProvisioner.Stop] does, with the same errors, and leaves the replica so
// until Reset or Reload, also under the next Fleet. When ctx ends, the stop goes on without the caller. ErrNotFound says that
// there is no such replica. Stopping one that is stopped already does nothing.
func (s *Fleet) StopReplica(ctx context.Context, pool, replica string) error {
	return s.StopReplicaWith(ctx, pool, replica, provisioner.StopOptions{})
}

// StopReplicaWith is StopReplica within limits of its own.
func (s *Fleet) StopReplicaWith(ctx context.Context, pool, replica string, limits provisioner.StopOptions) error {
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
func (s *Fleet) KillReplica(ctx context.Context, pool, replica string) error {
	r, err := s.find(pool, replica)
	if err != nil {
		return err
	}
	r.hurry()
	return r.insist(ctx, order{kind: orderStop, stop: atOnce()})
}

func (s *Fleet) find(pool, id string) (*replica, error) {
	replicas := s.all()
	i := slices.IndexFunc(replicas, func(r *replica) bool { return r.name == pool+"/"+id })
	if i < 0 {
		return nil, fmt.Errorf("%w: no replica %s/%s is supervised", provisioner.ErrNotFound, pool, id)
	}
	return replicas[i], nil
}

// LogDir returns the folder of a replica's logs, which is there from its first launch on. The error is ErrNotFound.
func (s *Fleet) LogDir(pool, replica string) (string, error) {
	r, err := s.find(pool, replica)
	if err != nil {
		return "", err
	}
	return r.files.Logs(), nil
}

// Done returns a channel that is closed when the supervisor has ended, by Stop or Release.
func (s *Fleet) Done() <-chan struct{} { return s.done }
