package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/fit"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/holds"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/shm"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/wake"
	"github.com/llama-orch/engine-provisioner/launch"
)

// Start prepares the engine, checks the host (model, port, GPU) and starts the engine's process. It returns when the
// process runs, which is long before it is ready; see WaitReady. ctx bounds Start alone, never the engine's life.
//
// The error is a *StartError, *GPUError or *ConfigError; one that wraps ErrStarted when there was a Start before, or
// ErrStopped when there was a Stop. When ctx ends or Stop is called meanwhile, it is a *StartError that wraps ctx's cause
// or ErrStopped. When Start fails, nothing of it is left behind but the log.
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
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = p.calledOff(errors.Join(context.Cause(ctx), p.stopErr))
	default:
		err = p.startError(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), ErrStopped) && p.stopErr == nil: // it was asked for: no failure of the launch's
		p.transition(StateStopped, "stopped before its engine ran")
	case errors.Is(context.Cause(ctx), ErrReleased) && p.stopErr == nil:
		p.err, p.stopErr = ErrReleased, ErrReleased
		p.transition(StateStopped, "let go before its engine ran")
	default:
		p.err = err
		p.transition(StateFailed, err.Error())
	}
	if err != nil {
		close(p.done)
		return err
	}
	p.run = r
	p.transition(StateStarting, "")
	go p.watch(r)
	go p.keep()
	return nil
}

// within derives a context that ends with ctx and with the launch's life, whichever is first.
func (p *EngineProvisioner) within(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.life, func() { cancel(context.Cause(p.life)) })
	return ctx, func(cause error) { stop(); cancel(cause) }
}

// checkHold refuses what somebody holds; the error wraps hold.ErrHeld.
func (p *EngineProvisioner) checkHold() error {
	files, err := filesOf(p.cfg.StateDir, p.cfg.fileStem())
	if err == nil {
		err = holds.Check(files, p.cfg.Name())
	}
	return err
}

// start does the work of Start. Each step is safe to be killed at: the record is written before the process exists,
// and the process holds the replica's lock and carries the launch's mark from its first instruction on.
func (p *EngineProvisioner) start(ctx context.Context) (_ *run, err error) {
	defer caught.Into(&err, p.opts.logger, p.cfg.Name())
	// 1. Everything that can be checked before anything is touched.
	if err := p.checkHold(); err != nil {
		return nil, err
	}
	secrets, err := readSecrets(p.cfg)
	if err != nil {
		return nil, err
	}
	if err := p.checkKeys(secrets.keys); err != nil {
		return nil, err
	}
	prepared, err := p.prepared(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := p.opts.plan(ctx, p.cfg, prepared)
	if err != nil {
		return nil, err
	}
	files := plan.files
	if err := files.Create(); err != nil {
		return nil, err
	}
	if err := files.Admit(readersOf(p.cfg.Handoff)); err != nil {
		return nil, err
	}

	// 2. The replica's lock: whoever holds it is a living engine, or a start that is under way.
	lock, err := files.Lock()
	if errors.Is(err, state.ErrHeld) {
		return nil, busy(files)
	}
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if err := p.checkHold(); err != nil { // what was got meanwhile may have taken hours
		return nil, err
	}
	last, err := readRecord(files)
	if errors.Is(err, state.ErrNewer) {
		return nil, err // a container of that version holds no lock
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.note(err.Error() + "; it is replaced")
	}
	// What a launch left whose provisioner was killed and whose engine then died.
	if err := p.opts.clear(ctx, files, last); err != nil {
		return nil, err
	}
	if err := errors.Join(files.Unpublish(""), files.ClearTorn(), files.Unhold()); err != nil {
		return nil, err
	}
	// Only now: an engine of this replica that runs already would count as taken memory, and not be told as what it is.
	recorded := func() {}
	if p.cfg.reserves() {
		if recorded, err = reserveMemory(ctx, files); err != nil {
			return nil, err
		}
		defer recorded()
		if plan, err = p.opts.plan(ctx, p.cfg, prepared); err != nil { // again, while nobody else takes any memory
			return nil, err
		}
	}
	for _, n := range plan.spec.Notes {
		p.note(n.Key + ": " + n.Message)
	}
	numbers := plan.adviseMemory()
	if lacking := fit.Lacking(plan.Memory); len(lacking) > 0 && p.cfg.Fit != "off" {
		short := &fit.LackError{Lacking: lacking, Advised: plan.spec.Advice}
		if p.cfg.Fit == "require" {
			return nil, short
		}
		p.note(short.Error() + "; " + numbers)
	}
	for _, port := range append([]engine.Port{{Number: p.cfg.Port}}, plan.spec.Ports...) {
		if err := p.checkPort(port, plan.host.Binary.Path); err != nil {
			return nil, err
		}
	}

	// 3. The record of the intent, and what the process needs.
	r := &run{
		files: files, key: secrets.keys.First(), redact: secrets.redactor(), started: time.Now(), exited: make(chan struct{}),
		killTimeout: proc.KillPatience, leaveTime: defaultLeaveTime,
	}
	if len(plan.GPUs) > 0 {
		r.others, _ = gpu.Ask(ctx, func() ([]gpu.Holding, error) { return p.opts.gpuDriver().Processes(nil) })
	}
	r.rec = record{
		Schema: state.RecordSchema, Generation: last.Generation + 1, Desired: desiredRunning, State: StatePreparing,
		LaunchID: proc.NewMark(), Pool: p.cfg.PoolID, Replica: p.cfg.ReplicaID, Engine: p.cfg.Engine,
		Version: plan.host.Binary.Version, Model: p.cfg.Model.ID, Host: p.cfg.Host, Port: p.cfg.Port, Advertise: plan.reached,
		Grace: plan.Grace, Settle: p.cfg.Stop.Settle, LoadGrace: plan.loadGrace(p.cfg), Dir: plan.Dir, Drain: p.cfg.Drain, APIKey: p.cfg.APIKey, Launch: plan.launchRecord(p.cfg),
		StartedAt: r.started.UTC(), Logs: p.cfg.Logs, Handoff: p.cfg.Handoff, LastFailed: last.failedLaunch(), ShmNamed: plan.shmNamed(p.cfg),
	}
	r.logs = p.newLogKeeper(r)
	r.logs.MakeRoom()
	log, n, err := files.OpenLog(r.rec.Generation)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r.rec.Generation, r.rec.Log = n, files.Log(n)
	by, err := p.opts.launchers.Performer(p.cfg.Provisioning.Mode, p.opts.cgroup)
	if err != nil {
		return nil, err
	}
	if r.inst, err = by.Reserve(target(p.cfg), p.cfg.tied(), r.rec.ref(files.State)); err != nil {
		return nil, err
	}
	r.rec.refer(r.inst)
	r.rec.Launch.Args = argsIn(r.rec.TempDir, plan.Flags)
	r.rec.Launch.Flags = argsIn(r.rec.TempDir, plan.ownFlags())
	r.rec.Launch.Seals = secret.Seal(secrets.byKey())
	defer func() {
		if err != nil {
			p.stopErr = r.undo()
			err = errors.Join(err, p.stopErr)
		}
	}()
	defer caught.Into(&err, p.opts.logger, p.cfg.Name()) // what runs by now is undone
	p.opts.Hooks.At("before_start")
	if err := writeRecord(files, r.rec); err != nil {
		return nil, err // no record, no process
	}
	recorded()
	p.opts.Hooks.At("after_record")

	// 4. The process.
	own := ownEnvironment(r.rec.LaunchID, r.rec.TempDir)
	if host, ok := r.inst.(*perform.Processes); ok {
		host.Files = perform.Files{Log: log, Lock: lock.Share()}
	}
	program := programOf(p.engine, p.cfg)
	err = r.inst.Start(ctx, launch.Launch{
		Target: targetOf(p.cfg, program), Spec: plan.spec, Host: plan.host, Image: program.Image, Args: r.rec.Launch.Args,
		Dir: plan.Dir, Grace: time.Duration(plan.Grace), Note: p.note,
		Env: entries(environment(p.cfg, plan.spec, plan.devices, secrets, own)),
	})
	r.rec.refer(r.inst)
	if err != nil {
		return nil, err
	}
	p.opts.Hooks.At("after_fork")

	// 5. The record of the process.
	r.rec.State = StateStarting
	err = changeRecord(files, func(current record, err error) (record, bool) {
		rec := r.rec
		if err == nil && current.LaunchID == rec.LaunchID {
			rec.Desired = current.Desired // another command may have begun to stop it
		}
		return rec, true
	})
	if err != nil {
		return nil, err
	}
	p.opts.Hooks.At("after_running_record")
	if err := files.WritePID(r.rec.Process.PID); err != nil {
		p.note(err.Error())
	}
	if err := files.PruneLogs(r.rec.Logs.Keep, r.rec.LastFailed); err != nil {
		p.note("cannot remove old logs: " + err.Error())
	}
	if errors.Is(context.Cause(ctx), ErrReleased) {
		return r, nil // what runs is let go as it is
	}
	return r, ctx.Err()
}

// clear removes what an earlier launch of the replica has left, none of whose processes may be alive.
func (o *options) clear(ctx context.Context, files state.Files, last record) error {
	if last.LaunchID == "" {
		return nil
	}
	inst, err := o.find(ctx, files, last)
	if err != nil {
		return err
	}
	defer inst.Release()
	if !last.State.Final() {
		names, err := (&run{inst: inst}).survivors()
		if err != nil {
			return err
		}
		if names != "" {
			return fmt.Errorf("%w: processes of an earlier launch are still alive: %s; stop the replica first", ErrBusy, names)
		}
	}
	return inst.Remove()
}

// observeInterval is by how much the look at an engine that has become ready is put off at most. It is a look at all processes
// of the machine, and many engines become ready together.
const observeInterval = 20 * time.Millisecond

// observeSoon looks at an engine together with others that have just become ready.
func (r *run) observeSoon() {
	if !shm.AnySince(r.rec.StartedAt) { // else what it would leave is remembered at once
		select {
		case <-r.exited:
			return
		case <-time.After(wake.Until(time.Now(), observeInterval)):
		}
	}
	_, _ = r.inst.Observe()
}
