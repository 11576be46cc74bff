package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/internal/wake"
	"github.com/llama-orch/engine-provisioner/launch"
)

// run is one engine that was started, by this provisioner or by an earlier one.
type run struct {
	files   state.Files
	rec     record // as written when the engine started
	inst    launch.Instance
	exited  chan struct{} // closed when the main process has ended; others may live on
	started time.Time
	found   time.Time // when this program took hold of it; zero when it started it

	others []gpu.Holding // what each process had of the GPUs before the start, as far as the driver tells

	killTimeout time.Duration    // how long SIGKILL may take
	leaveTime   time.Duration    // how long workers may take to end by themselves
	logs        *state.LogKeeper // nil until it is needed

	redact secret.Redactor
	key    secret.Text // the API key; empty when the engine asks for none

	stopping chan struct{} // of a stop in this program: closed when its grace is over; with the provisioner's mu
	after    succession    // with the provisioner's mu

	asked   atomic.Bool // for a token: an engine that dies from now on may die of it
	shown   atomic.Bool // its handoff has been written: whoever reads that takes it for ready
	workers atomic.Bool // more than the main process was seen when it was last looked at

	nameless atomic.Pointer[os.File] // the log, once somebody has removed or renamed it; nil before

	noting sync.WaitGroup // the one Observe that nobody waits for; it begins before the end is seen
}

// fail describes what went wrong with the engine, with its last words.
func (r *run) fail(cause engine.Cause) Failure { return r.failure(cause, "", r.lastLines()) }

func (r *run) failure(cause engine.Cause, evidence string, lines []string) Failure {
	return Failure{
		Replica:  r.rec.name(),
		Cause:    cause,
		Evidence: tail.Cut(evidence),
		Advice:   r.advice(cause),
		Retry:    diagnosis.Retryable(cause),
		LogTail:  tail.Last(lines),
		LogPath:  r.rec.Log,
	}
}

func (r *run) lastLines() []string { return r.redact.Lines(r.logEnd()) }

// advice is the engine's own on a cause, or the general one.
func (r *run) advice(cause engine.Cause) string {
	return cmp.Or(r.rec.Launch.Spec.Advice[cause], diagnosis.Advice(cause))
}

// log is what the engine has said so far, without secrets.
func (r *run) log() []string {
	if file := r.nameless.Load(); file != nil {
		return r.redact.Lines(tail.AllOf(file))
	}
	return r.redact.Lines(tail.All(r.rec.Log))
}

// statLog looks at the log, which may have lost its name.
func (r *run) statLog() (fs.FileInfo, error) {
	if file := r.nameless.Load(); file != nil {
		return file.Stat()
	}
	return os.Stat(r.rec.Log)
}

// progress is what shows that a load goes on.
func (r *run) progress() (life.Facts, []launch.Member) {
	now := life.Facts{Log: 1} // an empty log was looked at as well
	if info, err := r.statLog(); err == nil {
		now.Log += info.Size()
	}
	look := r.inst.Observe // a load that dies leaves what it had mapped
	if host, ok := r.inst.(*perform.Processes); ok {
		look = host.Glance // which many that load share
	}
	members, _ := look()
	r.workers.Store(len(members) > 1)
	for _, m := range members {
		now.CPU += m.CPU
		now.Memory += m.Memory
	}
	return now, members
}

// readyBy is when the load has taken too long. One that was found may have come to its end while nobody was there to see it: it
// has at least as long as a load may be silent.
func (r *run) readyBy() time.Time {
	limit := time.Duration(r.rec.Launch.Ready.Timeout)
	if !r.found.IsZero() {
		limit = max(limit, r.found.Sub(r.started)+time.Duration(r.rec.Launch.Ready.Stall))
	}
	return r.started.Add(limit)
}

// watchProgress cancels with errStalled when nothing moves for limit, or when the engine says that it falls back to the
// CPU although the GPU is required: llama-server says so in its first milliseconds, and the load may take ten minutes more.
func (r *run) watchProgress(ctx context.Context, limit time.Duration, gpuRequired bool, cancel context.CancelCauseFunc) {
	interval := min(max(limit/10, 5*time.Millisecond), time.Second)
	timer := time.NewTimer(wake.Until(time.Now(), interval))
	defer timer.Stop()
	var judge life.Judge
	var size int64
	last := time.Now()
	judge.See(last, life.Facts{}) // a short load need not pay for a look at /proc
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(wake.Until(time.Now(), interval)) // with all others that load, which share a look
		}
		now, members := r.progress()
		if gpuRequired && now.Log != size {
			size = now.Log
			if line, ok := evidence(r.rec.Launch.Spec.LaunchSpec, r.log()).FellBack(); ok {
				cancel(gpuError(gpu.OnCPU(fmt.Errorf("the engine falls back to the CPU: %q", tail.Cut(line)))))
				return
			}
		}
		at := time.Now()
		if at.Sub(last) > limit/2 { // this program was held up: it has not seen whether the engine was suspended meanwhile
			judge = life.Judge{}
		}
		last = at
		quiet := judge.See(at, now).Quiet
		if quiet > 0 {
			if now.Held = r.heldAmong(members); now.Held == "" && quiet >= limit { // nobody is given up by what was seen a while ago
				now.Held = r.held()
			}
			if now.Held != "" {
				judge.See(at, now) // which begins anew when it goes on
				continue
			}
		}
		if quiet >= limit {
			cancel(fmt.Errorf("%w for %s (no log line, no CPU time, no memory growth)", errStalled, limit))
			return
		}
	}
}

var (
	errStalled = errors.New("no progress")
	errTooLong = errors.New("the load took too long")
)

// logEnd are the last lines of the log, which may have lost its name.
func (r *run) logEnd() []string {
	if file := r.nameless.Load(); file != nil {
		return tail.LinesOf(file)
	}
	return tail.Lines(r.rec.Log)
}

// A server can outlive the main process: a script that starts it without "exec" dies of a SIGTERM that the server never gets.
// Then the server gets its own SIGTERM and the grace period, as the main process would have. Everybody else that
// outlives the main process is a worker, and is swept.

// succession is who goes on after the main process.
type succession struct {
	told bool   // it has got its SIGTERM, or has begun to end by itself; fixed by whoever ends it first
	name string // of the server that went on, for people; "" when there was none
}

// errGraceOver is why a wait ended that had the grace period.
var errGraceOver = errors.New("the grace period is over")

// grace is how long the launch has between SIGTERM and SIGKILL where its stop says nothing else.
func (r *run) grace(ready bool) time.Duration {
	if r.rec.LoadGrace > 0 && !ready {
		return time.Duration(r.rec.LoadGrace)
	}
	return time.Duration(r.rec.Grace)
}

// graceOf is a context that ends with the grace period, or with a kill.
func (p *EngineProvisioner) graceOf(allowed time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), allowed, errGraceOver)
	go func() {
		select {
		case <-p.hurry:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// outlast lets a server that has outlived the main process end until ctx does. It reports whether nothing is left but
// workers.
func (p *EngineProvisioner) outlast(ctx context.Context, r *run) bool {
	host, ok := r.inst.(*perform.Processes) // a container ends with its main process
	if !ok {
		return true
	}
	server := host.Tree.Server(r.rec.Host, r.rec.Port)
	if server == nil {
		return true
	}
	defer server.Close()
	p.mu.Lock()
	told := r.after.told
	r.after = succession{true, fmt.Sprintf("%q (pid %d)", server.Name, server.PID)}
	name := r.after.name
	if p.state == StateReady || p.state == StateStarting { // it has not been asked to end
		p.transition(StateStopping, "")
	}
	p.mu.Unlock()
	// A main process that passes its SIGTERM on and does not wait has told the server already. That closes its port then, and
	// a second SIGTERM would have llama-server drop everything.
	for since, wait := time.Now(), time.Millisecond; !told && time.Since(since) < r.leaveTime; wait = min(2*wait, 20*time.Millisecond) {
		if server.Exited() || !server.ListensOn(r.rec.Host, r.rec.Port) {
			told = true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
	if !told {
		p.note(fmt.Sprintf("%s, which listens, has outlived the main process and gets SIGTERM, too; start it with \"exec\" in the script", name))
		if err := errors.Join(server.Signal(syscall.SIGTERM), server.Signal(syscall.SIGCONT)); err != nil {
			p.note("cannot signal the server: " + err.Error())
		}
	}
	return server.Wait(ctx) == nil
}

// settle is what comes between the end of the main process and the sweep of all others. The stop of this program or of another
// looks after a server that goes on; else it is ended here, as by a stop, since nobody watches it any more.
func (p *EngineProvisioner) settle(r *run) {
	p.mu.Lock()
	ready := p.state == StateReady || p.state == StateDraining
	p.mu.Unlock()
	if p.ownStop(r) || r.stoppedElsewhere() && p.awaitStop(r) {
		return
	}
	_, allowed := p.stopTimes(r, ready)
	ctx, cancel := p.graceOf(allowed)
	defer cancel()
	p.outlast(ctx, r)
}

// ownStop waits for what this program's stop does to the launch, if one has come so far.
func (p *EngineProvisioner) ownStop(r *run) bool {
	p.mu.Lock()
	over := r.stopping
	p.mu.Unlock()
	if over == nil {
		return false
	}
	<-over
	return true
}

// awaitStop waits for the stop that another program is at, for as long as it is and may be. It reports whether that, or this
// program's own stop, has seen to the rest: who holds the lock of a stop may be this program by now, which finishes that of a
// program that was killed.
func (p *EngineProvisioner) awaitStop(r *run) bool {
	limit := time.Duration(r.rec.Grace)
	if rec, err := readRecord(r.files); err == nil {
		limit = time.Duration(rec.Grace) // which that program may have changed
	}
	since := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if members, err := r.inst.Members(); err == nil && len(members) == 0 || p.ownStop(r) {
			return true
		}
		if !state.Locked(r.files.StopLock()) || time.Since(since) > limit+r.killTimeout {
			return false
		}
		time.Sleep(wait)
	}
}

// background says of an engine that exited while others of it went on that it must not.
func (e *ExitError) background(who string) {
	e.Evidence = who + " went on in the background"
	e.Cause, e.Retry = engine.CauseUnknown, e.Ready
	e.Advice = `an engine must stay in the foreground: run it with "exec" in a script, and without "&", nohup or an option such as --daemon`
}

// words are what an error quotes of the log: the evidence, or what the engine said last, which is better than nothing. What it
// said before a signal is not why.
func (e *ExitError) words() string {
	words := e.Evidence
	if words == "" && (e.Signal == "" || e.Signal == "aborted") {
		words = tail.LastWords(e.LogTail)
	}
	if words == "" {
		return ""
	}
	return fmt.Sprintf(": %q", tail.Cut(words))
}
