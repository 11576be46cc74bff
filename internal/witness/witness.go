// Package witness gathers the facts about a running engine by which a [life.Judge] decides whether it lives: its health, its
// own account of its work, its processes and its log. It also asks an engine of which nothing moves for one token, and says of a
// verdict what people should know.
//
// Whoever looks after an engine calls it, and so do readiness and drain, for what suspends one. It decides nothing.
package witness

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// Engine is a running engine.
type Engine struct {
	Processes Processes
	Spec      engine.LaunchSpec
	Log       string                   // its path
	Nameless  *atomic.Pointer[os.File] // the log, once it has lost its name
}

// Processes are those of an engine.
type Processes interface {
	PID() int // of the main one
	Exited() bool
	Members() []Member // those that live
}

// Member is one of them.
type Member struct {
	State  byte // as in /proc
	CPU    time.Duration
	Memory int64
}

// Witness looks at an engine. It looks at no more than it must: an engine that answers and rests costs a question and one file
// of /proc. It is not safe for concurrent use.
type Witness struct {
	e    Engine
	ask  *probe.Prober
	log  *Log
	rest time.Duration // how long the main process must have rested before the metrics page is read

	main   time.Duration // CPU time of the main process at the last look
	looked time.Time     // when that was
	moved  time.Time     // when it last worked
	counts time.Time     // when the metrics page was last asked for
	busy   bool          // it had requests then, or gave no answer
}

// New makes the witness of an engine that has been ready. The metrics page is read when the main process has rested for so long.
func New(e Engine, ask *probe.Prober, rest time.Duration) *Witness {
	return &Witness{e: e, ask: ask, rest: rest, log: NewLog(e)}
}

// Look asks a ready engine for its health, and looks closer where that leaves doubt.
func (w *Witness) Look(ctx context.Context) life.Facts {
	var f life.Facts
	pid := w.e.Processes.PID()
	if f.Gone = w.e.Processes.Exited(); f.Gone {
		return f
	}
	works := false
	if s, err := procfs.ReadStat(pid); err == nil {
		if f.Held = suspended(s.State); f.Held != "" {
			return f
		}
		f.Main = s.CPU()
		works = w.worked(f.Main, time.Now())
	}
	w.askHealth(ctx, &f)
	if f.Answer == life.Mistaken || f.Answer != life.Refused && !works && w.due(time.Now()) {
		w.count(ctx, &f)
	}
	if f.Answer != life.Fine || w.busy && !works {
		w.lookAround(&f)
	}
	return f
}

// worked reports whether the main process has used CPU time since the last look, beyond what questions take.
func (w *Witness) worked(cpu time.Duration, now time.Time) bool {
	worked := !w.looked.IsZero() && cpu-w.main >= max(20*time.Millisecond, now.Sub(w.looked)/20)
	w.main, w.looked = cpu, now
	if worked || w.moved.IsZero() {
		w.moved = now
	}
	return worked
}

// due reports whether the metrics page is to be read. Each reading is a hole in llama-server's own averages, so an engine
// at work is not disturbed.
func (w *Witness) due(now time.Time) bool {
	return w.busy || now.Sub(w.moved) >= w.rest && now.Sub(w.counts) >= w.rest
}

func (w *Witness) askHealth(ctx context.Context, f *life.Facts) {
	f.Page = w.e.Spec.Health
	a, err := w.ask.Get(ctx, f.Page, probe.MaxHealthBody)
	f.Answer, f.Said = probe.Answered(a, err)
	if f.Answer == life.Mistaken {
		f.Said = f.Page + " answers " + f.Said
	}
}

// count reads the engine's own account of its work. Whether it sleeps is asked first: to some it would be work.
func (w *Witness) count(ctx context.Context, f *life.Facts) {
	spec := w.e.Spec
	if spec.Gauges == nil && spec.Counters == nil || spec.MetricsWake && f.Answer == life.Fine {
		return
	}
	w.counts, w.busy = time.Now(), false
	work, asleep, err := w.ask.Account(ctx, probe.Field(spec.Asleep), Gauges(spec), (*probe.Series)(spec.Counters))
	var silent *probe.UnansweredError
	switch {
	case asleep:
		f.Asleep = true
	case err == nil:
		f.Work, w.busy = work, work.Requests > 0
	case errors.As(err, &silent) && errors.Is(err, probe.ErrNoAnswer) && !probe.Unasked(err) && f.Answer == life.Fine:
		f.Answer, f.Page, f.Said, w.busy = life.Silence, silent.Page, probe.ErrNoAnswer.Error(), true
	}
}

// Gauges are the series that count the requests of an engine; nil where there are none.
func Gauges(spec engine.LaunchSpec) *probe.Series {
	if spec.Gauges == nil {
		return nil
	}
	return &probe.Series{Path: spec.Gauges.Path, Names: spec.Gauges.Names}
}

// lookAround looks at all processes of the engine and at its log.
func (w *Witness) lookAround(f *life.Facts) {
	members := w.e.Processes.Members()
	for _, m := range members {
		f.CPU += m.CPU
		f.Memory += m.Memory
	}
	if f.Answer != life.Fine {
		f.Held = w.e.heldAmong(members)
	}
	f.Log = w.log.Look()
}

const frozen = "its cgroup is frozen"

// Held says what suspends an engine that gives no answer; "" for nothing. It need not be the main process, which may be a
// script.
func (e Engine) Held() string { return e.heldAmong(e.Processes.Members()) }

func (e Engine) heldAmong(members []Member) string {
	for _, m := range members {
		if held := suspended(m.State); held != "" {
			return held
		}
	}
	if cgroup.Frozen(e.Processes.PID()) {
		return frozen
	}
	return ""
}

// suspended says by what a process is held that is in a state of /proc; "" when it is not.
func suspended(state byte) string {
	switch state {
	case 'T':
		return "SIGSTOP"
	case 't':
		return "a debugger holds it"
	}
	return ""
}
