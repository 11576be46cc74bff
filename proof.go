package provisioner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/exefile"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/internal/version"
	"github.com/llama-orch/engine-provisioner/internal/witness"
)

// The results of the answer proof, as the handoff tells them.
const (
	answerOK         = "ok"
	answerNotOffered = "not_offered" // the model offers no completions
	answerOff        = "off"         // switched off, or the engine has no such request
)

// proofError says that a healthy engine is not what it should be.
type proofError struct {
	cause  engine.Cause
	err    error
	advice string
}

func (e *proofError) Error() string { return e.err.Error() }
func (e *proofError) Unwrap() error { return e.err }

// becomeReady waits for the engine's own word and then does not take it: every claim is checked. The handoff is
// published last.
func (p *EngineProvisioner) becomeReady(ctx context.Context, r *run) (_ Handoff, err error) {
	defer caught.Into(&err, p.opts.logger, p.cfg.Name())
	ask, leave := r.prober(r.rec.Launch.Ready.RequestTimeout).Holding()
	defer leave()
	spec := r.rec.Launch.Spec
	// 1. The engine says that it is ready.
	if err := ask.AwaitHealthy(ctx, spec.Health, spec.HealthTakes, r.started, p.hear); err != nil {
		return Handoff{}, err
	}
	p.hear(healthyWords)
	// 2. It is this launch that says so.
	if err := r.checkListener(); err != nil {
		return Handoff{}, err
	}
	proven := proof{answer: answerOff}
	err = ask.UntilAnswered(ctx, r.started, p.hear, func(ask *probe.Prober) (err error) {
		proven.version, err = p.checkIdentity(ctx, ask, r)
		return err
	})
	if err != nil {
		return Handoff{}, err
	}
	proven.slots = ask.Slots(ctx, probe.Field(spec.SlotsAt), spec.Slots)
	// 3. It can produce a token: a vLLM was healthy until its first one killed it.
	if r.rec.Launch.Ready.Answer != "off" && spec.Answer != nil {
		r.asked.Store(true)
		p.hear(healthyWords + ", but no token yet")
		offered, err := p.firstToken(ctx, ask, r)
		switch {
		case err != nil:
			return Handoff{}, &proofError{cause: engine.CauseCannotAnswer, err: err}
		case offered:
			proven.answer = answerOK
			p.hear(healthyWords)
		default:
			p.hear(healthyWords)
			proven.answer = answerNotOffered
			p.note("the model offers no completions (embeddings or reranking?): ready without the proof of an answer")
		}
	}
	// 4. Its metrics are there when they were asked for. After the first token, because engines make some series for it.
	if spec.Metrics != nil {
		err := ask.UntilAnswered(ctx, r.started, p.hear, func(ask *probe.Prober) error { return ask.CheckMetrics(ctx, spec.Metrics.Path, spec.Metrics.Required) })
		if err != nil {
			return Handoff{}, &proofError{engine.CauseUnknown, err, "use an engine with working metrics, or switch them off in \"flags\""}
		}
	}
	// 5. It runs on the GPU. After the first token, because engines allocate lazily.
	if r.rec.Launch.GPU == engine.GPURequired {
		if err := p.checkGPU(ctx, r, false); err != nil {
			return Handoff{}, err
		}
	}
	return p.publish(ctx, r, proven)
}

// checkListener makes sure that the socket that answers belongs to the tree. Where that cannot be seen, the model's
// path, which checkIdentity compares, has to do.
func (r *run) checkListener() error {
	owns, known := r.inst.Listens(port.Loopback(r.rec.Host), r.rec.Port)
	if owns || !known {
		return nil
	}
	return &proofError{
		cause:  engine.CausePortInUse,
		err:    fmt.Errorf("another process answers on port %d: %s", r.rec.Port, port.Listener(port.Loopback(r.rec.Host), r.rec.Port, ourEngine)),
		advice: "stop that process, or change \"port\"",
	}
}

// checkIdentity compares what the engine says of itself with what was started, and returns its version.
func (p *EngineProvisioner) checkIdentity(ctx context.Context, ask *probe.Prober, r *run) (string, error) {
	known := r.rec.Version
	if r.rec.Launch.Spec.Model != (engine.Field{}) {
		path, err := ask.Text(ctx, probe.Field(r.rec.Launch.Spec.Model))
		if err != nil {
			return "", &proofError{cause: engine.CauseUnknown, err: err}
		}
		want := r.rec.Launch.ModelPath
		// What it says has been made safe to show.
		same := path == tail.Clean(want) || sameFile(path, want, r.rec.Dir)
		if want == "" { // the engine fetched it by its name
			want, _, _ = models.HubName(r.rec.Model)
			same = path == want
		}
		if !same {
			return "", &proofError{
				engine.CauseUnknown, fmt.Errorf("the engine serves another model: %q instead of %q", path, want),
				"remove what selects another model from \"flags\" and \"env\"",
			}
		}
	}
	if r.rec.Launch.Spec.Version == (engine.Field{}) {
		return known, nil
	}
	running, err := ask.Text(ctx, probe.Field(r.rec.Launch.Spec.Version))
	if err != nil {
		return "", &proofError{cause: engine.CauseUnknown, err: err}
	}
	if known != "" && !version.Same(running, known) {
		// A wrapper script around an engine that was upgraded looks the same as before. The running engine is right.
		p.note(fmt.Sprintf("the running engine says version %q, its executable said %q; asking the executable again next time", running, known))
		p.opts.supply.inspector(p.cfg).Forget(r.rec.Launch.Digest, programOf(p.engine, p.cfg), plainEnv(p.cfg))
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

// errTokensSeen ends a question for a token that others have answered.
var errTokensSeen = errors.New("the engine gives tokens to others")

// firstToken asks for one token. How long a first one takes nobody knows, but an engine that is at it makes progress, as
// in a load. Where it makes none for long, the question is taken for lost, as a proxy between a container and us may lose
// it, and is asked again on another connection. The last try lasts until the load is given up.
//
// Clients that know the port may have filled the engine before us. The tokens that they get are an answer as well.
func (p *EngineProvisioner) firstToken(ctx context.Context, ask *probe.Prober, r *run) (offered bool, err error) {
	asking, answered := context.WithCancelCause(ctx)
	var others sync.WaitGroup
	others.Go(func() {
		err := caught.Do(p.opts.logger, p.cfg.Name(), func() {
			if r.givesTokens(asking, ask) {
				answered(errTokensSeen)
			}
		})
		if err != nil {
			answered(err)
		}
	})
	offered, err = p.askFirst(asking, ask, r)
	answered(nil)
	others.Wait()
	if errors.Is(err, errTokensSeen) && ctx.Err() == nil {
		p.note("it gives tokens to clients that came before it was ready; its own question for one was not waited for")
		return true, nil
	}
	return offered, err
}

func (p *EngineProvisioner) askFirst(ctx context.Context, ask *probe.Prober, r *run) (offered bool, err error) {
	const tries = 3
	spec, idle := r.rec.Launch.Spec, 4*ask.Timeout
	for range tries - 1 {
		trying, giveUp := context.WithCancelCause(ctx)
		var watch sync.WaitGroup
		watch.Go(func() { r.watchProgress(trying, idle, false, giveUp) })
		offered, err = ask.AskToken(trying, witness.Token(spec.LaunchSpec))
		giveUp(nil)
		watch.Wait()
		if !errors.Is(err, errStalled) || ctx.Err() != nil {
			return offered, err
		}
		p.note(fmt.Sprintf("no first token came for %s, and the engine does nothing; asking again", idle))
	}
	return ask.AskToken(ctx, witness.Token(spec.LaunchSpec))
}

const (
	// ownTokens is more than the question for one token can add to the engine's counters: its prompt, its token, its steps.
	ownTokens = 32
	// countInterval is the time between two looks at the counters of an engine that has not given its first token.
	countInterval = 500 * time.Millisecond
)

// givesTokens returns true as soon as the engine's counters show more tokens than are our own, and false when ctx ends.
func (r *run) givesTokens(ctx context.Context, ask *probe.Prober) bool {
	spec := r.rec.Launch.Spec
	if spec.Counters == nil {
		return false
	}
	var judge life.Judge
	for timeout := ask.Timeout; ; {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(countInterval): // most engines have answered by then
		}
		work, _, err := ask.Within(timeout).Account(ctx, probe.Field(spec.Asleep), witness.Gauges(spec.LaunchSpec), (*probe.Series)(spec.Counters))
		if errors.Is(err, probe.ErrNoAnswer) {
			timeout = ask.Longer(timeout)
		}
		if err == nil && judge.See(time.Now(), life.Facts{Work: work}).Tokens > ownTokens {
			return true
		}
	}
}

// checkGPU holds the engine's word and the driver's against the requirement. Of a launch that was proven before, only what
// speaks against it counts.
func (p *EngineProvisioner) checkGPU(ctx context.Context, r *run, proven bool) error {
	members, err := r.inst.Members()
	if err != nil {
		return err
	}
	pids := make([]int, len(members))
	for i, m := range members {
		pids[i] = m.PID
	}
	type usage struct {
		held    []gpu.Holding
		heldErr error
		gpus    []gpu.Device
	}
	now, err := gpu.Ask(ctx, func() (usage, error) {
		driver := p.opts.gpuDriver()
		held, heldErr := gpu.Processes(driver, pids)
		gpus, err := driver.GPUs()
		return usage{held, heldErr, gpus}, err
	})
	all := evidence(r.rec.Launch.Spec.LaunchSpec, r.log())
	all.PIDs, all.Held, all.HeldErr = pids, now.held, now.heldErr
	all.Before, all.After, all.Proven = r.rec.Launch.GPUs, now.gpus, proven
	if err != nil && all.ByDriver() && !proven {
		return &GPUError{Err: fmt.Errorf("the driver failed after the load: %w", err), Advice: diagnosis.Advice(engine.CauseDriver)}
	}
	by, err := all.Prove()
	if err == nil && by != "" {
		p.note("it uses the GPU: " + by)
	}
	return gpuError(err)
}

// checkPort refuses a port that the engine could not listen on. An executable or a container's runtime may have rights that
// this program has not.
func (p *EngineProvisioner) checkPort(wanted engine.Port, executable string) error {
	problem, err := port.Try(p.cfg.Host, wanted.Number, ourEngine)
	switch {
	case err != nil:
		return fmt.Errorf("cannot listen on port %d: %w", wanted.Number, err)
	case problem.Reason == port.Free, problem.Reason == port.Forbidden && (p.cfg.contained() || exefile.HasCapabilities(executable)):
		return nil
	}
	return &port.Error{Port: wanted, Problem: problem}
}

// explainBind says what the engine leaves out that could not listen: llama-server has one sentence for all reasons.
func (r *run) explainBind(f *Failure) {
	ports := append([]engine.Port{{Number: r.rec.Port}}, r.rec.Launch.Spec.Ports...)
	for _, wanted := range ports {
		problem, err := port.Try(r.rec.Host, wanted.Number, ourEngine)
		if err != nil || problem.Reason == port.Free {
			continue
		}
		f.Cause = problem.Reason.Cause()
		f.Retry = f.Retry && diagnosis.Retryable(f.Cause)
		f.Advice = (&port.Error{Port: wanted, Problem: problem}).Error() + "; " + problem.Advice
		return
	}
	f.Advice = fmt.Sprintf("port %d is free by now; if that happens again, look at what else the engine needs to listen, such as the files of TLS", r.rec.Port)
}

// ourEngine tells a process of an engine of ours, of whichever state directory: whoever carries a launch's mark prints to
// its log.
func ourEngine(pid int) (what, advice string) {
	id, marked := procfs.Env(pid, proc.MarkEnv)
	dir := filepath.Dir(filepath.Dir(procfs.Output(pid))) // <state>/<replica>/logs/<n>.log
	if !marked || !filepath.IsAbs(dir) {
		return "", ""
	}
	files := state.In(filepath.Dir(dir), filepath.Base(dir))
	rec, err := readRecord(files)
	if err != nil || rec.LaunchID != id {
		return "", ""
	}
	return fmt.Sprintf("the engine %s/%s of the state directory %q", rec.Pool, rec.Replica, files.State),
		fmt.Sprintf(`stop that one (engine-provisioner stop --state-dir %s --pool %s), or change "port"`, files.State, rec.Pool)
}
