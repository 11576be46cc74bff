package provisioner

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
)

// EngineProvisioner is one launch of one engine. Like an exec.Cmd it cannot be used again: make a new one for the next
// launch. Its methods are safe for concurrent use.
//
// The engine is no part of the program's life: it runs on when the program ends without Stop, and [Attach] finds it.
type EngineProvisioner struct {
	cfg    ProvisionConfig
	opts   options
	engine Engine // nil for a launch that was attached to

	life context.Context         // ends with the first Stop, or a failure, as its cause says
	end  context.CancelCauseFunc // ends life

	attempt   int           // of a supervised replica; fixed before the start
	starting  sync.Mutex    // held by Start, so that Stop comes before or after it
	waiting   chan struct{} // holds one token while a WaitReady is at work
	hurry     chan struct{} // closed when a later Stop's context ends: no more grace
	hurryOnce sync.Once
	stuck     chan struct{} // closed when the first Stop has found the engine to be unkillable
	stuckOnce sync.Once
	done      chan struct{} // closed when the launch has ended; err and stopErr are valid then

	mu       sync.Mutex
	state    State
	since    time.Time // of state
	run      *run      // nil before the engine runs
	handoff  Handoff
	heard    string  // what the engine answered last, while it loads
	asked    bool    // Stop or Release was called: there is no more to come
	killed   string  // the grace period, when it was not enough
	released bool    // Release was called
	final    *record // of a launch that has ended
	exit     *int    // its exit code, where it is known
	failure  error   // why a running engine was given up
	err      error
	stopErr  error
	drainErr error // of a fatal drain hook
}

// New checks cfg and returns a launch that has not been started. It does no I/O and starts no goroutine. Its error is
// a *ConfigError with everything that is wrong.
func New(cfg ProvisionConfig, opts ...Option) (*EngineProvisioner, error) {
	if err := cfg.Validate(opts...); err != nil {
		return nil, err
	}
	p := newProvisioner(cfg.withDefaults(), newOptions(opts))
	p.engine, _ = p.opts.engine(cfg.Engine) // Validate knows it
	return p, nil
}

func newProvisioner(cfg ProvisionConfig, opts options) *EngineProvisioner {
	life, end := context.WithCancelCause(context.Background())
	return &EngineProvisioner{
		cfg: cfg, opts: opts, life: life, end: end,
		waiting: make(chan struct{}, 1), hurry: make(chan struct{}), stuck: make(chan struct{}), done: make(chan struct{}),
		state: StateNew, since: time.Now(),
	}
}

// Start prepares the engine, checks the host (model, port, GPU) and starts the engine's process. It returns when the
// process runs, which is long before it is ready; see WaitReady. ctx bounds Start alone, never the engine's life.
//
// The error is a *StartError, *GPUError or *ConfigError, or ErrStarted when there was a Start before. When Start
// fails, nothing of it is left behind but the log.
func (p *EngineProvisioner) Start(ctx context.Context) error {
	p.starting.Lock()
	defer p.starting.Unlock()
	p.mu.Lock()
	switch {
	case p.state == StateStopped:
		p.mu.Unlock()
		return fmt.Errorf("cannot start %s: %w", p.cfg.Name(), ErrStopped)
	case p.state != StateNew:
		p.mu.Unlock()
		return fmt.Errorf("cannot start %s: %w; one EngineProvisioner is one launch", p.cfg.Name(), ErrStarted)
	}
	p.transition(StatePreparing, "")
	p.mu.Unlock()

	ctx, cancel := p.within(ctx)
	defer cancel(nil)
	r, err := p.start(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), p.stopErr)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		err = p.startError(err)
		p.err = err
		p.transition(StateFailed, err.Error())
		close(p.done)
		return err
	}
	p.run = r
	p.transition(StateStarting, "")
	go p.watch(r)
	return nil
}

// within derives a context that ends with ctx and with the launch's life, whichever is first.
func (p *EngineProvisioner) within(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.life, func() { cancel(context.Cause(p.life)) })
	return ctx, func(cause error) { stop(); cancel(cause) }
}

// start does the work of Start. Each step is safe to be killed at: the record is written before the process exists,
// and the process holds the replica's lock and carries the launch's mark from its first instruction on.
func (p *EngineProvisioner) start(ctx context.Context) (_ *run, err error) {
	// 1. Everything that can be checked before anything is touched.
	plan, err := p.opts.plan(ctx, p.cfg)
	if err != nil {
		return nil, err
	}
	secrets, err := readSecrets(p.cfg)
	if err != nil {
		return nil, err
	}
	files := plan.files
	if err := files.create(); err != nil {
		return nil, err
	}

	// 2. The replica's lock: whoever holds it is a living engine, or a start that is under way.
	lock, err := files.lock()
	if errors.Is(err, errLocked) {
		return nil, busy(files)
	}
	if err != nil {
		return nil, err
	}
	defer lock.release()
	last, err := files.readRecord()
	if err == nil && !last.State.Final() {
		if names := (&run{tree: treeOf(last)}).survivors(); names != "" {
			return nil, fmt.Errorf("%w: processes of an earlier launch are still alive: %s; stop the replica first", ErrBusy, names)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.note(err.Error() + "; it is replaced")
	}
	// What a launch left whose provisioner was killed and whose engine then died.
	if err := errors.Join(files.unpublish(""), files.clearTorn(), (&run{rec: last}).removeTemp(), cgroup.Open(last.Cgroup).Remove()); err != nil {
		return nil, err
	}
	if problem := portProblem(p.cfg.Host, p.cfg.Port); problem != "" {
		return nil, &portError{p.cfg.Port, problem}
	}

	// 3. The record of the intent, and what the process needs.
	r := &run{
		files: files, key: secrets.key, redact: secrets.redactor(), started: time.Now(), exited: make(chan struct{}),
		killTimeout: defaultKillTimeout,
	}
	r.rec = record{
		Schema: recordSchema, Generation: last.Generation + 1, Desired: desiredRunning, State: StatePreparing,
		LaunchID: newLaunchID(), Pool: p.cfg.PoolID, Replica: p.cfg.ReplicaID, Engine: p.cfg.Engine,
		Version: plan.host.Binary.Version, Model: p.cfg.Model.ID, Host: p.cfg.Host, Port: p.cfg.Port,
		Grace: plan.Grace, Dir: plan.Dir, Drain: p.cfg.Drain, APIKey: p.cfg.APIKey, Launch: plan.launchRecord(p.cfg),
		StartedAt: r.started.UTC(), Logs: p.cfg.Logs, LastFailed: last.failedLaunch(),
	}
	// Not delegated is the usual case; doctor tells of it.
	base, err := p.opts.cgroup()
	if err == nil {
		r.tree.group = base.Group("engine-" + p.cfg.fileStem() + "-" + r.rec.LaunchID)
		r.rec.Cgroup = r.tree.group.Path
		r.oom.shared = base.WatchOOM()
	}
	r.tree.launchID = r.rec.LaunchID
	temp, err := tempDir(r.rec.LaunchID)
	if err != nil {
		return nil, err
	}
	r.logs = p.newLogKeeper(r)
	r.logs.makeRoom()
	log, n, err := files.openLog(r.rec.Generation)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r.rec.TempDir = temp
	r.rec.Generation, r.rec.Log = n, files.log(n)
	defer func() {
		if err != nil {
			p.stopErr = r.undo()
			err = errors.Join(err, p.stopErr)
		}
	}()
	p.opts.at("before_start")
	if err := files.writeRecord(r.rec); err != nil {
		return nil, err // no record, no process
	}
	p.opts.at("after_record")
	if err := os.Mkdir(temp, 0o700); err != nil {
		r.rec.TempDir = "" // not ours to remove
		return nil, fmt.Errorf("cannot create a temporary folder: %w", err)
	}

	// 4. The process.
	own := ownEnvironment(r.rec.LaunchID, r.rec.TempDir)
	err = p.launch(r, command{
		path: plan.host.Binary.Path, args: r.rec.Launch.Args, dir: plan.Dir, log: log, lock: lock.file,
		env:  entries(environment(p.cfg, plan.spec, plan.host.GPUs, secrets, own)),
		tied: p.cfg.tied(),
	})
	if err != nil {
		return nil, &binaryError{fmt.Errorf("cannot run the engine's executable: %w", err)}
	}
	r.tree.leader = r.leader.identity
	p.opts.at("after_fork")

	// 5. The record of the process.
	r.rec.State, r.rec.Process = StateStarting, r.leader.identity
	if err := files.writeRecord(r.rec); err != nil {
		return nil, err
	}
	p.opts.at("after_running_record")
	if err := files.writePID(r.leader.PID); err != nil {
		p.note(err.Error())
	}
	if err := files.pruneLogs(r.rec.Logs.Keep, r.rec.LastFailed); err != nil {
		p.note("cannot remove old logs: " + err.Error())
	}
	return r, ctx.Err()
}

// launch starts the process, in a cgroup of its own where that can be had: Linux before 5.7, a seccomp filter or a full
// tree refuse it, and an engine runs as well without one.
func (p *EngineProvisioner) launch(r *run, c command) (err error) {
	if group := r.tree.group; group != nil {
		c.group = group
		refused := group.Create()
		if refused == nil {
			if r.leader, refused = launch(c); refused == nil {
				return nil
			}
		}
		if err := group.Remove(); err != nil {
			p.note(err.Error())
		}
		c.group, r.tree.group, r.rec.Cgroup = nil, nil, ""
		defer func() {
			if err == nil { // else the reason lies in the command
				p.note("the engine gets no cgroup of its own: " + refused.Error())
			}
		}()
	}
	r.leader, err = launch(c)
	return err
}

// busy says who holds the replica.
func busy(files replicaFiles) error {
	rec, err := files.readRecord()
	if err != nil || rec.State.Final() {
		return fmt.Errorf("%w: another process holds %q", ErrBusy, files.lockPath())
	}
	if rec.Process.PID == 0 {
		return fmt.Errorf("%w: another provisioner is starting this replica", ErrBusy)
	}
	return fmt.Errorf("%w: it runs already (pid %d, since %s); stop it first (engine-provisioner stop)",
		ErrBusy, rec.Process.PID, rec.StartedAt.Local().Format(time.DateTime))
}

// portError says that the port is not free.
type portError struct {
	port    int
	problem string
}

func (e *portError) Error() string { return fmt.Sprintf("port %d is not free: %s", e.port, e.problem) }
func (e *portError) Unwrap() error { return ErrBusy }

// startError gives err the type that Start promises.
func (p *EngineProvisioner) startError(err error) error {
	var config *ConfigError
	var gpu *GPUError
	if errors.As(err, &config) || errors.As(err, &gpu) {
		return err
	}
	f := Failure{Replica: p.cfg.Name(), Cause: CauseUnknown, Retry: true}
	var port *portError
	var binary *binaryError
	var asked *askError
	var model *modelError
	switch {
	case transient(err):
		f.Advice = "the machine is out of processes, memory or open files, or too slow to ask the executable; try again later"
	case errors.As(err, &port):
		f.Cause = CausePortInUse
		f.Advice = "stop what uses the port, or change \"port\""
	case errors.As(err, &model):
		f.Cause = CauseModelMissing
	case errors.As(err, &asked):
		f.LogTail = asked.lines
		f.Cause = CauseLibMissing
		f.Advice = adviceFor(CauseLibMissing)
	case errors.As(err, &binary):
		f.Cause = CauseLibMissing
	}
	f.Retry = retryable(f.Cause)
	return &StartError{Failure: f, Err: err}
}

// transient reports whether err says that the machine is too busy, which is not the executable's fault.
func transient(err error) bool {
	return slices.ContainsFunc([]error{
		syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, context.DeadlineExceeded,
	}, func(busy error) bool { return errors.Is(err, busy) })
}

// watch is the goroutine of a launch, beside the one that keeps its logs within their limits. It waits for the engine's
// end without a thread, and puts everything away.
func (p *EngineProvisioner) watch(r *run) {
	defer close(p.done)
	leaveLogs := p.keepLogs(r)
	if r.leader != nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		stop := context.AfterFunc(p.life, func() {
			if errors.Is(context.Cause(p.life), ErrReleased) {
				cancel(ErrReleased)
			}
		})
		err := r.leader.wait(ctx)
		stop()
		cancel(nil)
		if errors.Is(err, ErrReleased) {
			p.mu.Lock()
			p.err, p.stopErr = ErrReleased, ErrReleased
			p.mu.Unlock()
			r.noting.Wait()
			r.leader.close()
			leaveLogs()
			return
		}
	}
	close(r.exited)

	p.mu.Lock()
	p.unpublish()
	wasReady, asked := p.state == StateReady, p.asked && !p.released
	final := StateFailed
	if asked && p.failure == nil {
		final = StateStopped
	}
	p.mu.Unlock()

	r.noting.Wait()
	leaveLogs() // before the last record is written, which needs room on the disk
	end := r.finish(final, asked)

	p.mu.Lock()
	defer p.mu.Unlock()
	p.final = &end.rec
	if end.exit.known {
		p.exit = &end.exit.code
	}
	if end.swept > 0 {
		p.noteLocked(fmt.Sprintf("%d processes outlived the engine and were killed", end.swept))
	}
	if end.port != "" {
		p.noteLocked(fmt.Sprintf("the engine is gone, but port %d is not free: %s", r.rec.Port, end.port))
	}
	p.err, p.stopErr = p.failure, end.err
	switch {
	case end.err != nil:
		p.err = fmt.Errorf("cannot clean up after %s: %w", p.cfg.Name(), end.err)
		p.stopErr = p.err
	case p.killed != "":
		p.stopErr = fmt.Errorf("%s: %w of %s", p.cfg.Name(), ErrKilled, p.killed)
	case p.failure == nil && !asked && !end.foreign:
		p.err = r.exitError(end.exit, wasReady)
	}
	if p.err == nil {
		switch {
		case p.state == StateDraining:
			p.transition(StateStopping, endedDraining)
		case p.state != StateStopping:
			p.transition(StateStopping, "stopped by another command")
		}
		p.transition(StateStopped, "")
		return
	}
	p.transition(StateFailed, p.err.Error())
}

// unpublish removes the handoff. It is called with mu held, like the publication, so that the file never outlives
// the readiness.
func (p *EngineProvisioner) unpublish() {
	if err := p.run.files.unpublish(p.run.rec.LaunchID); err != nil {
		p.noteLocked(err.Error())
	}
}

// giveUp ends an engine that is not fit to be used. It returns err, which is also what Err will say.
func (p *EngineProvisioner) giveUp(err error) error {
	if !p.condemn(err) {
		return err
	}
	if stopped := p.Stop(context.Background()); stopped != nil && !errors.Is(stopped, ErrKilled) {
		return errors.Join(err, stopped)
	}
	return err
}

// condemn says why the launch is about to be ended; false when it has ended or is being stopped already.
func (p *EngineProvisioner) condemn(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked || p.state.Final() {
		return false
	}
	p.failure = err
	return true
}

// Release lets go of the engine without stopping it: it runs on, and [Attach] finds it again; one that is to be killed
// with its manager is stopped instead. The provisioner cannot
// be used afterwards: Done is closed and Err is ErrReleased. Releasing what does not run does nothing.
//
// As long as nobody holds the engine, its log is cut only when a provisioner of another replica looks at the pool's logs.
//
// It is meant for programs that end soon: while this program lives, the engine stays its child, and a zombie once it
// has ended.
func (p *EngineProvisioner) Release() {
	if p.cfg.tied() {
		_ = p.Stop(context.Background()) // what it says stands in Err
		return
	}
	p.starting.Lock()
	p.mu.Lock()
	release := p.run != nil && !p.asked && !p.state.Final()
	if release {
		p.asked, p.released = true, true
	}
	p.mu.Unlock()
	p.starting.Unlock()
	if release {
		p.end(ErrReleased)
		<-p.done
	}
}

// Done is closed when the launch has ended and nothing of it is left.
func (p *EngineProvisioner) Done() <-chan struct{} { return p.done }

// Err is nil until Done is closed, and after a stop. Otherwise it says why the launch ended: an *ExitError, a
// *NotReadyError, or what Start returned.
func (p *EngineProvisioner) Err() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// transition moves the launch to another state and tells of it. It is called with mu held.
func (p *EngineProvisioner) transition(to State, message string) {
	if !slices.Contains(transitions[p.state], to) {
		p.opts.logger.Error("impossible transition", "replica", p.cfg.Name(), "from", p.state, "to", to)
		return
	}
	p.opts.logger.Debug("state", "replica", p.cfg.Name(), "from", p.state, "to", to)
	now := time.Now()
	took := max(0, now.Sub(p.since)) // of an attached launch it is a difference of clock times
	e := Event{Kind: EventState, From: p.state, Took: took.Round(time.Microsecond).Seconds(), Message: message}
	p.state, p.since = to, now
	if to == StateFailed {
		e.Cause = causeOf(p.err)
	}
	if to.Final() {
		e.ExitCode = p.exit
	}
	if to == StateReady {
		h := p.handoff
		e.Handoff = &h
	}
	p.emit(e)
}

// note tells something that changes nothing.
func (p *EngineProvisioner) note(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noteLocked(message)
}

// noteLocked is note for those who hold mu.
func (p *EngineProvisioner) noteLocked(message string) {
	p.opts.logger.Warn(message, "replica", p.cfg.Name())
	p.emit(Event{Kind: EventNote, Message: message})
}

// emit tells of an event. It is called with mu held, which is what keeps events in order.
func (p *EngineProvisioner) emit(e Event) {
	e.Time, e.Pool, e.Replica, e.State, e.Attempt = time.Now().UTC(), p.cfg.PoolID, p.cfg.ReplicaID, p.state, p.attempt
	if p.run != nil {
		e.LaunchID, e.PID = p.run.rec.LaunchID, p.run.rec.Process.PID
	}
	p.opts.onEvent(e)
}

func newLaunchID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// tied reports whether the engine is killed with the program that started it.
func (c ProvisionConfig) tied() bool { return c.OnManagerExit == "kill" }
