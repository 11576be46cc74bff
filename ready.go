package provisioner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The results of the answer proof, as the handoff tells them.
const (
	answerOK         = "ok"
	answerNotOffered = "not_offered" // the model offers no completions
	answerOff        = "off"         // switched off, or the engine has no such request
)

// WaitReady returns when the engine is ready and its handoff file is written. Ready means: the health path says 200;
// what answers is this launch's process tree, of the expected model; the engine can produce a token; the metrics page keeps
// its contract when metrics are on; and it runs on the GPU when one is required.
//
// It returns an *ExitError as soon as the engine exits, and a *NotReadyError or *GPUError when the engine makes no
// progress, takes too long (see ReadyConfig) or is not what it should be: then the engine is stopped before the
// return. When ctx ends first, the error is a *NotReadyError that wraps ctx's cause, the engine loads on, and WaitReady
// may be called again. After readiness it returns the same handoff at once.
func (p *EngineProvisioner) WaitReady(ctx context.Context) (Handoff, error) {
	select {
	case p.waiting <- struct{}{}:
		defer func() { <-p.waiting }()
	case <-ctx.Done():
		return Handoff{}, p.notReady(context.Cause(ctx))
	}
	p.mu.Lock()
	r, state, handoff := p.run, p.state, p.handoff
	p.mu.Unlock()
	switch {
	case state == StateReady:
		return handoff, nil
	case state.Final() || state == StateDraining || state == StateStopping:
		return Handoff{}, p.endedBeforeReady(ctx)
	case r == nil:
		return Handoff{}, fmt.Errorf("cannot wait for %s: %w", p.cfg.Name(), ErrNotStarted)
	case p.engine == nil:
		return Handoff{}, fmt.Errorf("cannot wait for %s: %w: another provisioner is waiting for it", p.cfg.Name(), ErrBusy)
	}

	inner, cancel := p.within(ctx)
	defer cancel(nil)
	timeout := time.Duration(r.rec.Launch.Ready.Timeout)
	limit := time.AfterFunc(time.Until(r.started.Add(timeout)), func() {
		cancel(fmt.Errorf("%w: more than %s", errTooLong, timeout))
	})
	defer limit.Stop()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		r.watchProgress(inner, time.Duration(r.rec.Launch.Ready.Stall), r.rec.Launch.GPU == GPURequired, cancel)
	}()
	exitSeen := make(chan struct{})
	go func() {
		defer close(exitSeen)
		select {
		case <-r.exited:
			cancel(errExited)
		case <-inner.Done():
		}
	}()
	defer func() { cancel(nil); <-watched; <-exitSeen }()

	handoff, err := p.becomeReady(inner, r)
	if err == nil {
		return handoff, nil
	}
	// Whatever the last step said: when the engine is gone, that is why. A dying engine's connections break before
	// its exit is seen: a dump of its memory takes its time, and so does everything on a busy machine.
	if inner.Err() == nil {
		dying := 200 * time.Millisecond
		if brokeOff(err) {
			dying = 2 * time.Second
		}
		select {
		case <-r.exited:
		case <-time.After(dying):
		}
	}
	if cause := context.Cause(inner); cause != nil {
		err = cause
	}
	select {
	case <-r.exited:
		err = errExited
	default:
	}
	switch {
	case errors.Is(err, errStoppedElsewhere):
		return Handoff{}, p.notReady(err)
	case errors.Is(err, errExited), errors.Is(err, ErrStopped), errors.Is(err, ErrReleased):
		return Handoff{}, p.endedBeforeReady(ctx)
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return Handoff{}, p.notReady(err)
	}
	return Handoff{}, p.giveUp(p.notReady(err))
}

// endedBeforeReady waits for the end of a launch and says why it came.
func (p *EngineProvisioner) endedBeforeReady(ctx context.Context) error {
	if !errors.Is(context.Cause(p.life), ErrStopped) {
		select {
		case <-p.done:
		case <-ctx.Done():
			return p.notReady(context.Cause(ctx))
		}
	}
	if err := p.Err(); err != nil {
		return err
	}
	return p.notReady(ErrStopped)
}

// notReady makes err a *NotReadyError, unless it is about the GPU.
func (p *EngineProvisioner) notReady(err error) error {
	var gpu *GPUError
	if errors.As(err, &gpu) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &NotReadyError{Failure: Failure{Replica: p.cfg.Name(), Cause: CauseUnknown, Retry: true}, Err: err, Last: p.heard}
	if p.run == nil {
		return e
	}
	e.After = time.Since(p.run.started)
	var proof *proofError
	if errors.As(err, &proof) {
		e.Failure, e.Last = p.run.fail(proof.cause), ""
		if proof.advice != "" {
			e.Advice = proof.advice
		}
		return e
	}
	e.Failure = p.run.fail(CauseUnknown)
	switch {
	case errors.Is(err, ErrStopped): // it was no failure of the engine's
		e.Advice, e.LogTail, e.Last = "", nil, ""
	case errors.Is(err, errStalled):
		e.Advice = "look at the log; raise \"ready.stall\" if the engine may be silent for so long"
	case errors.Is(err, errTooLong):
		e.Advice = "look at the log; raise \"ready.timeout\" if the model needs more"
	default:
		e.Advice = ""
	}
	return e
}

// proofError says that a healthy engine is not what it should be.
type proofError struct {
	cause  Cause
	err    error
	advice string
}

func (e *proofError) Error() string { return e.err.Error() }
func (e *proofError) Unwrap() error { return e.err }

// becomeReady waits for the engine's own word and then does not take it: every claim is checked. The handoff is
// published last.
func (p *EngineProvisioner) becomeReady(ctx context.Context, r *run) (Handoff, error) {
	ask, spec := r.prober(r.rec.Launch.Ready.RequestTimeout), r.rec.Launch.Spec
	// 1. The engine says that it is ready.
	if err := ask.awaitHealthy(ctx, spec.Health, spec.HealthTakes, r.started, p.hear); err != nil {
		return Handoff{}, err
	}
	p.hear("200 OK")
	// 2. It is this launch that says so.
	if err := r.checkListener(); err != nil {
		return Handoff{}, err
	}
	version := r.rec.Version
	err := untilAnswered(ctx, r.started, p.hear, func() (err error) {
		version, err = p.checkIdentity(ctx, ask, r)
		return err
	})
	if err != nil {
		return Handoff{}, err
	}
	// 3. It can produce a token: a vLLM was healthy until its first one killed it.
	answer := answerOff
	if r.rec.Launch.Ready.Answer != "off" && spec.Answer != nil {
		r.asked.Store(true)
		p.hear("200 OK, but no token yet")
		offered, err := p.firstToken(ctx, ask, r)
		switch {
		case err != nil:
			return Handoff{}, &proofError{cause: CauseCannotAnswer, err: err}
		case offered:
			answer = answerOK
			p.hear("200 OK")
		default:
			p.hear("200 OK")
			answer = answerNotOffered
			p.note("the model offers no completions (embeddings or reranking?): ready without the proof of an answer")
		}
	}
	// 4. Its metrics are there when they were asked for. After the first token, because engines make some series for it.
	if spec.Metrics != nil {
		err := untilAnswered(ctx, r.started, p.hear, func() error { return ask.checkMetrics(ctx, *spec.Metrics) })
		if err != nil {
			return Handoff{}, &proofError{CauseUnknown, err, "use an engine with working metrics, or switch them off in \"flags\""}
		}
	}
	// 5. It runs on the GPU. After the first token, because engines allocate lazily.
	if r.rec.Launch.GPU == GPURequired {
		if err := p.checkGPU(ctx, r); err != nil {
			return Handoff{}, err
		}
	}
	return p.publish(ctx, r, version, answer)
}

// firstToken asks for one token. How long a first one takes nobody knows, but an engine that is at it uses a CPU, writes to its
// log or takes memory. Where it does none of that for long, the question is taken for lost, as a proxy between a
// container and us may lose it, and is asked again on another connection. The last try lasts until the load is given up.
func (p *EngineProvisioner) firstToken(ctx context.Context, ask *prober, r *run) (offered bool, err error) {
	const tries = 3
	spec, idle := r.rec.Launch.Spec, 4*ask.timeout
	for range tries - 1 {
		trying, giveUp := context.WithCancelCause(ctx)
		var watch sync.WaitGroup
		watch.Go(func() { r.awaitIdle(trying, idle, giveUp) })
		offered, err = ask.askToken(trying, *spec.Answer, spec.MustAnswer)
		giveUp(nil)
		watch.Wait()
		if !errors.Is(err, errNoAnswer) || ctx.Err() != nil {
			return offered, err
		}
		p.note(fmt.Sprintf("no first token came for %s, and the engine does nothing; asking again", idle))
	}
	return ask.askToken(ctx, *spec.Answer, spec.MustAnswer)
}

// awaitIdle gives up after so long, or later, when the engine has done nothing for half of it.
func (r *run) awaitIdle(ctx context.Context, idle time.Duration, giveUp context.CancelCauseFunc) {
	ticker := time.NewTicker(idle / 2)
	defer ticker.Stop()
	for before, at := (*progress)(nil), time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := r.progress()
		if before != nil && !now.since(*before, time.Since(at)) {
			giveUp(errNoAnswer)
			return
		}
		before, at = &now, time.Now()
	}
}

// prober questions this launch. An engine whose healthy answer takes its time gets five times that.
func (r *run) prober(timeout Duration) *prober {
	limit := max(time.Duration(timeout), 5*r.rec.Launch.Spec.HealthTakes)
	return newProber(loopback(r.rec.Host), r.rec.Port, r.key, limit)
}

func (p *EngineProvisioner) hear(words string) {
	p.mu.Lock()
	p.heard = words
	p.mu.Unlock()
}

// checkListener makes sure that the socket that answers belongs to the tree. Where that cannot be seen, the model's
// path, which checkIdentity compares, has to do.
func (r *run) checkListener() error {
	owns, known := r.inst.Listens(loopback(r.rec.Host), r.rec.Port)
	if owns || !known {
		return nil
	}
	return &proofError{
		cause:  CausePortInUse,
		err:    fmt.Errorf("another process answers on port %d: %s", r.rec.Port, listenerOwner(loopback(r.rec.Host), r.rec.Port)),
		advice: "stop that process, or change \"port\"",
	}
}

// checkIdentity compares what the engine says of itself with what was started, and returns its version.
func (p *EngineProvisioner) checkIdentity(ctx context.Context, ask *prober, r *run) (string, error) {
	version := r.rec.Version
	if r.rec.Launch.Spec.Model != (Field{}) {
		path, err := ask.field(ctx, r.rec.Launch.Spec.Model)
		if err != nil {
			return "", &proofError{cause: CauseUnknown, err: err}
		}
		want := r.rec.Launch.ModelPath
		same := sameFile(path, want, r.rec.Dir)
		if want == "" { // the engine fetched it by its name
			want, _, _ = hubModel(r.rec.Model)
			same = path == want
		}
		if !same {
			return "", &proofError{
				CauseUnknown, fmt.Errorf("the engine serves another model: %q instead of %q", path, want),
				"remove what selects another model from \"flags\" and \"env\"",
			}
		}
	}
	if r.rec.Launch.Spec.Version == (Field{}) {
		return version, nil
	}
	running, err := ask.field(ctx, r.rec.Launch.Spec.Version)
	if err != nil {
		return "", &proofError{cause: CauseUnknown, err: err}
	}
	if version != "" && !sameVersion(running, version) {
		// A wrapper script around an engine that was upgraded looks the same as before. The running engine is right.
		p.note(fmt.Sprintf("the running engine says version %q, its executable said %q; asking the executable again next time", running, version))
		p.opts.inspector().forget(r.rec.Launch.Digest, p.engine.Program(p.cfg), plainEnv(p.cfg))
	}
	return running, nil
}

// sameFile reports whether the engine means the file that it was given; it may say it relative to its folder.
func sameFile(said, want, dir string) bool {
	if !filepath.IsAbs(said) {
		said = filepath.Join(dir, said)
	}
	if filepath.Clean(said) == filepath.Clean(want) {
		return true
	}
	a, errA := os.Stat(said)
	b, errB := os.Stat(want)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// checkGPU holds the engine's word and the driver's against the requirement.
func (p *EngineProvisioner) checkGPU(ctx context.Context, r *run) error {
	members, err := r.inst.Members()
	if err != nil {
		return err
	}
	pids := make([]int, len(members))
	for i, m := range members {
		pids[i] = m.PID
	}
	type usage struct {
		memory map[int]uint64
		memErr error
		gpus   []GPU
	}
	now, err := askDriver(ctx, func() (usage, error) {
		driver := p.opts.gpuDriver()
		memory, memErr := processMemory(driver)
		gpus, err := driver.GPUs()
		return usage{memory, memErr, gpus}, err
	})
	if err != nil {
		return &GPUError{Err: fmt.Errorf("the driver failed after the load: %w", err), Advice: adviceFor(CauseDriver)}
	}
	return proveOffload(r.rec.Launch.Spec, r.log(), pids, now.memory, now.memErr, r.rec.Launch.GPUs, now.gpus)
}

var errStoppedElsewhere = fmt.Errorf("%w by another command", ErrStopped)

// stoppedElsewhere reports whether another provisioner has begun to stop the engine.
func (r *run) stoppedElsewhere() bool {
	rec, err := r.files.readRecord()
	return err == nil && rec.LaunchID == r.rec.LaunchID && rec.Desired == desiredStopped
}

// publish writes the handoff, if the engine is still there and wanted.
func (p *EngineProvisioner) publish(ctx context.Context, r *run, version, answer string) (Handoff, error) {
	h := Handoff{
		Engine: r.rec.Engine, EngineVersion: version, ProvisioningMode: r.rec.Launch.Mode,
		URL: engineURL(loopback(r.rec.Host), r.rec.Port), PoolID: r.rec.Pool, ReplicaID: r.rec.Replica,
		Model: HandoffModel{ID: r.rec.Model, Path: r.rec.Launch.ModelPath}, Flags: r.rec.Launch.Args,
		Schema: HandoffSchema, Generation: r.rec.Generation, Auth: r.rec.APIKey, ReadyAt: time.Now().UTC(), Answer: answer,
		Process: &HandoffProcess{
			PID: r.rec.Process.PID, StartTicks: r.rec.Process.StartTicks, BootID: r.rec.Process.BootID, LaunchID: r.rec.LaunchID,
		},
	}
	for _, g := range r.rec.Launch.GPUs {
		h.Devices = append(h.Devices, g.UUID)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The watcher and Stop remove the file under the same lock, so it cannot outlive the engine.
	if p.state != StateStarting || p.asked || r.inst.Exited() {
		return Handoff{}, errExited
	}
	if err := ctx.Err(); err != nil {
		return Handoff{}, context.Cause(ctx)
	}
	if r.stoppedElsewhere() {
		return Handoff{}, errStoppedElsewhere
	}
	p.opts.at("before_publish")
	if err := r.files.publish(h); err != nil {
		return Handoff{}, errors.Join(err, r.files.unpublish(r.rec.LaunchID)) // it may be there, only not safe from a power cut
	}
	p.opts.at("after_publish")
	// Whoever stops the engine says so in the record before it removes the handoff for the last time. So either it
	// finds this one, or this finds its word.
	if r.stoppedElsewhere() {
		return Handoff{}, errors.Join(errStoppedElsewhere, r.files.unpublish(r.rec.LaunchID))
	}
	p.handoff = h
	p.transition(StateReady, h.URL)
	// For the case that it is killed later. Not before the return: it looks at all processes of the machine, 1 ms.
	r.noting.Go(func() { _, _ = r.inst.Observe() })
	return h, nil
}
