package fleet

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/board"
	"github.com/llama-orch/engine-provisioner/fleet/internal/feed"
	"github.com/llama-orch/engine-provisioner/fleet/internal/outcome"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// Fleet keeps replicas alive: it starts their engines, watches them, and starts them again by the rules of
// [settings.Restart]. It may be empty. Its methods are safe for concurrent use. It holds the state directory until
// Shutdown, KillAll or Release: there is one manager for a directory.
//
// The engines are no part of the program's life. When the program dies, they go on, and the next Fleet for the same state
// directory adopts them.
type Fleet struct {
	manager *provisioner.Manager
	state   string               // the state directory
	opts    []provisioner.Option // of the launches
	log     *slog.Logger
	tell    func(provisioner.Event)
	// attempts are the present ones, by ReplicaID. Events of launches get theirs here: those come under the launch's lock, and
	// a replica asks its launch for its status under its own.
	attempts sync.Map
	feed     feed.Feed
	board    *board.Board
	inbox    *inbox
	kept     chan struct{} // closed when all events are in the file
	since    uint64        // this manager's events have larger numbers

	changing chan struct{} // holds one token during a change: one at a time, so that a pool never lacks more than one replica
	done     chan struct{}
	ended    error // what the first Shutdown or Release returned; fixed once done is closed

	mu       sync.Mutex
	replicas []*replica // in the order of the configuration; replaced as a whole
	ending   *order     // of the first Shutdown or Release: no replica is added any more; nil before it
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
	// ConfigFile is the absolute path of what Configs reads, so that a reload of another file is refused; "" takes all.
	ConfigFile string
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
// Start or Reload, and one that is held until that is over; WaitReady does not wait for them. An engine that another program is stopping is started when that is over.
// The error is a *ConfigError, a *LockedError when another manager has the state directory, or ctx's cause: then all engines
// are let go.
func Open(ctx context.Context, o Options, cfgs ...provisioner.ProvisionConfig) (*Fleet, error) {
	f := &Fleet{changing: make(chan struct{}, 1), kept: make(chan struct{}), done: make(chan struct{})}
	f.opts = o.Launch
	f.log = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	dir := o.StateDir
	if dir == "" && len(cfgs) > 0 {
		dir = cfgs[0].StateDir
	}
	dir, err := state.Dir(dir)
	if err != nil {
		return nil, err
	}
	f.state, f.board = dir, board.New(dir)
	if cfgs, err = f.checked(cfgs); err != nil {
		return nil, err
	}
	if f.manager, err = provisioner.Manage(dir); err != nil {
		return nil, err
	}
	f.inbox = newInbox(f, o)
	f.observe(o.OnEvent)
	found, err := f.manager.Recover(ctx, nil, f.opts...)
	if err != nil {
		f.letGo()
		return nil, err
	}
	_ = f.launch(f.takeOn(ctx, cfgs, found), cfgs) // it is not ending
	f.inbox.start()
	return f, nil
}

// adoptions is how many engines are adopted at once: most of it is waiting, for the executable's word and the disk.
const adoptions = 16

// takeOn makes the replicas of cfgs, with those of the launches that are theirs. The others are let go, but for those whose
// stop has to be finished.
func (f *Fleet) takeOn(ctx context.Context, cfgs []provisioner.ProvisionConfig, found []provisioner.Recovered) []*replica {
	left := map[provisioner.ReplicaID]provisioner.Recovered{}
	for _, one := range found {
		left[one.ID()] = one
	}
	replicas := make([]*replica, len(cfgs))
	configured := map[provisioner.ReplicaID]*replica{}
	turns := make(chan struct{}, adoptions)
	var all sync.WaitGroup
	for i, cfg := range cfgs {
		one := left[cfg.ID()]
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			r := newReplica(f, cfg)
			replicas[i] = r
			switch {
			case one.Launch == nil:
			case one.Result == report.RecoveredAdopted:
				r.adopt(ctx, one.Launch)
			default:
				r.finish(one.Launch)
			}
			r.keepStale()
		})
	}
	all.Wait()
	for _, r := range replicas {
		configured[r.id] = r
	}
	for _, one := range found {
		e := outcome.OfRecovery(one)
		r := configured[one.ID()]
		switch {
		case one.Launch == nil || one.Result != report.RecoveredAdopted:
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
		f.tell(e)
	}
	for _, r := range replicas {
		r.announce()
	}
	for _, one := range found {
		switch {
		case one.Launch == nil || configured[one.ID()] != nil:
		case one.Result == report.RecoveredAdopted:
			one.Launch.Release()
		default:
			f.inbox.work.Go(func() { _ = one.Launch.Stop(context.Background()) }) // its events tell
		}
	}
	return replicas
}

// all are the present replicas.
func (f *Fleet) all() []*replica {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replicas
}

// WaitReady returns when every replica has been ready, or with the first failure of one that has not been yet; a *GPUError
// among them is of an adopted engine that serves, and does not meet "gpu: required". The fleet goes on in either case. One
// that is removed meanwhile is not waited for, nor is one that is added.
func (f *Fleet) WaitReady(ctx context.Context) error {
	replicas := f.all()
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

// Wait returns when no replica runs any more, nor will by itself: each was given up, or stopped by another command, and none is
// held; of an empty fleet, at once. The error joins why each was given up; it is nil when all were stopped. When ctx ends first, it is ctx's cause, and
// ErrReleased after Release.
func (f *Fleet) Wait(ctx context.Context) error {
	for {
		var failed []error
		replicas := f.all()
		for _, r := range replicas {
			ended, err := r.waitEnd(ctx)
			if !ended {
				return context.Cause(ctx)
			}
			failed = append(failed, err)
		}
		if errors.Is(f.over(), provisioner.ErrReleased) {
			return provisioner.ErrReleased
		}
		// One that ended early may have been reset meanwhile, and a change that is under way may start others.
		done, err := f.begin(ctx)
		if err != nil {
			return err
		}
		rest := slices.Equal(replicas, f.all()) && !slices.ContainsFunc(replicas, func(r *replica) bool { return !r.atRest() || r.hold() != nil })
		done()
		if rest {
			return errors.Join(failed...)
		}
	}
}

// Status returns where the replicas stand, in the order of the configuration. It also works after the fleet has ended.
func (f *Fleet) Status() []provisioner.Status {
	replicas := f.all()
	all := make([]provisioner.Status, len(replicas))
	for i, r := range replicas {
		all[i] = r.status()
	}
	return all
}

// Done returns a channel that is closed when the fleet has ended, by Shutdown, KillAll or Release.
func (f *Fleet) Done() <-chan struct{} { return f.done }
