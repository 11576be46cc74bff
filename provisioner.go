package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/report"
)

// EngineProvisioner is one launch of one engine. Like an exec.Cmd it cannot be used again: make a new one for the next
// launch. Its methods are safe for concurrent use.
//
// The engine is no part of the program's life: it runs on when the program ends without Stop, and [Attach] finds it.
type EngineProvisioner struct {
	cfg    ProvisionConfig // of a launch that was attached to, what its record tells
	opts   options
	found  bool   // by Attach or Recover: the launch is another provisioner's
	engine Engine // nil for a launch that was attached to

	life context.Context         // ends with the first Stop, or a failure, as its cause says
	end  context.CancelCauseFunc // ends life

	byHand   bool       // it was attached to by Attach, to be stopped most likely
	starting sync.Mutex // held by Start, so that Stop comes before or after it
	// publishing is held by whoever writes or removes the handoff; see publish. It is taken before mu.
	publishing           sync.Mutex
	keeping              sync.Mutex    // held by look, which what follows belongs to
	written              fs.FileInfo   // the handoff's file when it was last found right; nil before
	keyFile              fs.FileInfo   // the file of the API key when it was last looked into; nil before
	looked               fs.FileInfo   // the record when it was last read; nil before
	unwritten            bool          // the handoff could not be written the last time, which is told
	unrecorded           bool          // the record could not
	waiting              chan struct{} // holds one token while a WaitReady is at work
	hurry                chan struct{} // closed by Kill: no more drain and grace
	hurryOnce, stuckOnce sync.Once
	stuck                chan struct{} // closed when the first Stop has found the engine to be unkillable
	done                 chan struct{} // closed when the launch has ended; err and stopErr are valid then

	mu           sync.Mutex
	state        State
	since        time.Time // of state
	run          *run      // nil before the engine runs
	prep         *Prepared // what Start is to run; nil before that was found out
	handoff      Handoff
	heard        string          // what the engine answered last, while it loads
	asked        bool            // its end is decided on, by the first of Stop, Release and condemn; see claim
	killed       string          // the grace period, when it was not enough
	drained      string          // how the drain went, for people
	limits       StopOptions     // of the stop that was first
	early        bool            // its stop began before it was ready
	by           *report.Stopper // another program that has asked for the stop; nil for this one's own
	released     bool            // it was Release
	withdrawn    bool            // it is out of service; see Drain
	passedOn     bool            // its engine goes on under another EngineProvisioner of this program; see passOn
	final        *record         // of a launch that has ended
	exit         *int            // its exit code, where it is known
	failure      error           // why a running engine was given up
	err, stopErr error
	drainErr     error // of a fatal drain hook
}

// New checks cfg and returns a launch that has not been started. It does no I/O and starts no goroutine. Its error is
// a *ConfigError with everything that is wrong.
func New(cfg ProvisionConfig, opts ...Option) (*EngineProvisioner, error) {
	if err := cfg.Validate(opts...); err != nil {
		return nil, err
	}
	p := newProvisioner(cfg.WithDefaults(), newOptions(opts))
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

// watch is the goroutine of a launch, beside the one that keeps its logs within their limits. It waits for the engine's
// end without a thread, and puts everything away.
func (p *EngineProvisioner) watch(r *run) {
	defer close(p.done)
	if err := caught.Do(p.opts.logger, r.rec.name(), func() { p.watchOver(r) }); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = err
		if !p.state.Final() {
			p.transition(StateFailed, err.Error())
		}
	}
}

func (p *EngineProvisioner) watchOver(r *run) {
	leaveLogs, closeLog := p.keepLogs(r)
	defer closeLog()
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := context.AfterFunc(p.life, func() {
		if errors.Is(context.Cause(p.life), ErrReleased) {
			cancel(ErrReleased)
		}
	})
	err := r.inst.Wait(ctx)
	stop()
	cancel(nil)
	if errors.Is(err, ErrReleased) {
		p.awaitPublication()
		p.mu.Lock()
		p.err, p.stopErr = ErrReleased, ErrReleased
		passedOn := p.passedOn
		p.mu.Unlock()
		r.noting.Wait()
		if !passedOn {
			r.inst.Release()
		}
		leaveLogs()
		return
	}
	p.afterEnd(r, leaveLogs)
}

// afterEnd puts everything away when the main process of an engine has ended; it is not on the stack of who waits for that.
func (p *EngineProvisioner) afterEnd(r *run, leaveLogs func()) {
	close(r.exited)

	p.unpublish()
	p.mu.Lock()
	wasReady := p.state == StateReady || r.shown.Load()
	p.mu.Unlock()
	p.settle(r)
	p.mu.Lock()
	asked, server := p.asked && !p.released, r.after.name
	killed := p.killed != ""
	final := StateFailed
	if asked && p.failure == nil {
		final = StateStopped
	}
	p.mu.Unlock()

	r.noting.Wait()
	leaveLogs() // before the last record is written, which needs room on the disk
	// A ready engine that dies leaves workers that stay, and hold the GPU.
	if (r.workers.Load() || !asked) && !killed && (!wasReady || r.stoppedElsewhere()) {
		r.awaitLeaving()
	}
	if !asked && !wasReady && server == "" {
		server, _ = r.survivors() // one that went to the background need not listen yet
	}
	end := r.finish(final, asked)
	var died *ExitError
	if !asked && !end.foreign {
		if died = r.exitError(end.exit, wasReady); server != "" && died.Code == 0 {
			died.background(server)
			end.swept = 0 // is told already
		}
	}

	last := p.concluded(r, end, died, asked)
	if p.byHand && asked && last.State.Final() { // in the end all that is left to do, since a disk can hang
		if err := addEnd(r.files.State, last); err != nil {
			p.note(err.Error())
		}
	}
}

// concluded makes the end of a launch known, and returns the last event that it told.
func (p *EngineProvisioner) concluded(r *run, end ending, died *ExitError, asked bool) Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.final = &end.rec
	if end.exit.Known {
		p.exit = &end.exit.Code
	}
	if end.swept > 0 {
		p.noteLocked(end.sweptText())
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
	case p.failure == nil && died != nil:
		p.err = died
	}
	if p.err != nil {
		return p.transition(StateFailed, p.err.Error())
	}
	how := ""
	if p.byHand {
		how = p.how()
	}
	if stop := end.rec.Stop; end.foreign && stop != nil {
		p.by, how = &stop.By, stop.How
	}
	switch {
	case p.state == StateDraining:
		p.transition(StateStopping, endedDraining)
	case p.state != StateStopping:
		p.transition(StateStopping, stoppedBy(p.by))
	}
	return p.transition(StateStopped, how)
}

// how tells how a stop went, for people. It is called with mu held.
func (p *EngineProvisioner) how() string {
	killed := ""
	if p.killed != "" {
		killed = "killed after the grace period of " + p.killed
	}
	return strings.Join(slices.DeleteFunc([]string{p.drained, killed}, func(s string) bool { return s == "" }), ", ")
}

// claim decides that and how the launch ends: with ErrStopped or ErrReleased. It is called with mu held. false says that
// this is decided already, or over: whoever is first has it done, and all others wait for that.
func (p *EngineProvisioner) claim(how error) bool {
	if p.asked || p.state.Final() {
		return false
	}
	p.asked, p.released = true, errors.Is(how, ErrReleased)
	p.end(how)
	return true
}

// giveUp ends an engine that is not fit to be used. It returns err, which is also what Err will say.
func (p *EngineProvisioner) giveUp(err error) error {
	end := p.condemn(err)
	if end == nil {
		return err
	}
	if stopped := end(); stopped != nil && !errors.Is(stopped, ErrKilled) {
		return errors.Join(err, stopped)
	}
	return err
}

// condemn decides that a launch whose engine runs is ended because of err. What it returns does it; nil when the launch
// has ended or its end is decided already.
func (p *EngineProvisioner) condemn(err error) (end func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.claim(ErrStopped) {
		return nil
	}
	p.failure = err
	return func() error { return p.stop(p.run) }
}

// Release lets go of the engine without stopping it: it runs on, and [Attach] finds it again. One that is to be killed with
// its manager is stopped instead. A Start that is under way is called off, or, when the engine runs already, let go of
// as well. The provisioner cannot be used afterwards: Done is closed, Err returns ErrReleased, and Status stays as it was.
// Releasing what was not started, what has ended or what is being stopped does nothing.
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
	p.mu.Lock()
	first := p.state != StateNew && p.claim(ErrReleased)
	p.mu.Unlock()
	if first {
		<-p.done
	}
}

// Done returns a channel that is closed when the launch has ended and nothing of it is left, or after Release.
func (p *EngineProvisioner) Done() <-chan struct{} { return p.done }

// Err returns nil until Done is closed, and after a stop. Otherwise it returns why the launch ended: an *ExitError, a
// *NotReadyError, a *GPUError, what Start returned, or ErrReleased.
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

// transition moves the launch to another state, tells of it, and returns what it told. It is called with mu held.
func (p *EngineProvisioner) transition(to State, message string) Event {
	if !slices.Contains(transitions[p.state], to) {
		p.opts.logger.Error("impossible transition", "replica", p.cfg.Name(), "from", p.state, "to", to)
		return Event{}
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
	if to == StateDraining || to == StateStopping || to.Final() {
		e.StoppedBy = p.by
	}
	return p.emit(e)
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
func (p *EngineProvisioner) emit(e Event) Event {
	e.Time, e.Pool, e.Replica, e.State = time.Now().UTC(), p.cfg.PoolID, p.cfg.ReplicaID, p.state
	if p.run != nil {
		e.LaunchID, e.PID = p.run.rec.LaunchID, p.run.rec.Process.PID
	}
	e.Message = tail.Plain(e.Message)
	p.opts.onEvent(e)
	return e
}
