package provisioner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/launch"
)

// witness gathers the facts about a running engine by which a [life.Judge] decides. It looks at no more than it must: an
// engine that answers and rests costs a question and one file of /proc. It is not safe for concurrent use.
type witness struct {
	r    *run
	ask  *probe.Prober
	log  logWatch
	rest time.Duration // how long the main process must have rested before the metrics page is read

	main   time.Duration // CPU time of the main process at the last look
	looked time.Time     // when that was
	moved  time.Time     // when it last worked
	counts time.Time     // when the metrics page was last asked for
	busy   bool          // it had requests then, or gave no answer
}

func (r *run) witness(ask *probe.Prober, rest time.Duration) *witness {
	spec := r.rec.Launch.Spec
	pages := [][]byte{[]byte("GET " + spec.Health)}
	if spec.Asleep != (engine.Field{}) {
		pages = append(pages, []byte("GET "+spec.Asleep.Path))
	}
	if spec.Gauges != nil {
		pages = append(pages, []byte("GET "+spec.Gauges.Path))
	}
	return &witness{r: r, ask: ask, rest: rest, log: logWatch{path: r.rec.Log, gone: &r.nameless, pages: pages, chatter: spec.Chatter}}
}

// look asks a ready engine for its health, and looks closer where that leaves doubt.
func (w *witness) look(ctx context.Context) life.Facts {
	var f life.Facts
	pid := w.r.inst.PID()
	if f.Gone = w.r.inst.Exited(); f.Gone {
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
func (w *witness) worked(cpu time.Duration, now time.Time) bool {
	worked := !w.looked.IsZero() && cpu-w.main >= max(20*time.Millisecond, now.Sub(w.looked)/20)
	w.main, w.looked = cpu, now
	if worked || w.moved.IsZero() {
		w.moved = now
	}
	return worked
}

// due reports whether the metrics page is to be read. Each reading is a hole in llama-server's own averages, so an engine
// at work is not disturbed.
func (w *witness) due(now time.Time) bool {
	return w.busy || now.Sub(w.moved) >= w.rest && now.Sub(w.counts) >= w.rest
}

func (w *witness) askHealth(ctx context.Context, f *life.Facts) {
	f.Page = w.r.rec.Launch.Spec.Health
	a, err := w.ask.Get(ctx, f.Page, probe.MaxHealthBody)
	f.Answer, f.Said = probe.Answered(a, err)
	if f.Answer == life.Mistaken {
		f.Said = f.Page + " answers " + f.Said
	}
}

// count reads the engine's own account of its work. Whether it sleeps is asked first: to some it would be work.
func (w *witness) count(ctx context.Context, f *life.Facts) {
	spec := w.r.rec.Launch.Spec
	if spec.Gauges == nil && spec.Counters == nil || spec.MetricsWake && f.Answer == life.Fine {
		return
	}
	w.counts, w.busy = time.Now(), false
	work, asleep, err := w.ask.Account(ctx, probe.Field(spec.Asleep), (*probe.Series)(spec.Gauges), (*probe.Series)(spec.Counters))
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

// lookAround looks at all processes of the engine and at its log.
func (w *witness) lookAround(f *life.Facts) {
	members, _ := w.r.inst.Members()
	for _, m := range members {
		f.CPU += m.CPU
		f.Memory += m.Memory
	}
	if f.Answer != life.Fine {
		f.Held = w.r.heldAmong(members)
	}
	f.Log = w.log.look()
}

const heldFrozen = "its cgroup is frozen"

// held says what suspends an engine that gives no answer; "" for nothing. It need not be the main process, which may be a
// script.
func (r *run) held() string {
	members, _ := r.inst.Members()
	return r.heldAmong(members)
}

func (r *run) heldAmong(members []launch.Member) string {
	for _, m := range members {
		if held := suspended(m.State); held != "" {
			return held
		}
	}
	if cgroup.Frozen(r.inst.PID()) {
		return heldFrozen
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

// logWatch tells how much of a log is a sign of work: not what tells of questions, which many engines write for each, as our
// own would keep a wedged engine alive.
type logWatch struct {
	path    string
	gone    *atomic.Pointer[os.File] // the log, once it has lost its name; nil where that cannot be
	pages   [][]byte                 // as lines about questions name them
	chatter *regexp.Regexp           // nil for none

	size int64 // at the last look
	work int64 // of it
}

// maxLogPiece is how much of what is new in a log is looked at.
const maxLogPiece = 64 << 10

// look returns a number that rises with signs of work. It is never 0.
func (l *logWatch) look() int64 {
	file, closeFile := l.open()
	defer closeFile()
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.Size() < l.size: // it was cut, as it had grown
		l.work++
		l.size = info.Size()
	case info.Size() > l.size:
		l.work += l.signs(file, info.Size())
		l.size = info.Size()
	}
	return l.work + 1
}

// open is the log; nil when there is none.
func (l *logWatch) open() (file *os.File, closeFile func()) {
	if l.gone != nil && l.gone.Load() != nil {
		return l.gone.Load(), func() {}
	}
	file, _ = os.Open(l.path)
	return file, func() { _ = file.Close() } // of nil it is an error, as is all else
}

// signs counts the bytes of new lines that are signs of work, in a log of that size.
func (l *logWatch) signs(file io.ReaderAt, size int64) (n int64) {
	from := max(l.size, size-maxLogPiece)
	piece, _ := io.ReadAll(io.NewSectionReader(file, from, size-from))
	if from > l.size { // amid a line
		_, piece, _ = bytes.Cut(piece, []byte("\n"))
	}
	for line := range bytes.Lines(piece) {
		if !l.idle(line) {
			n += int64(len(line))
		}
	}
	return n
}

func (l *logWatch) idle(line []byte) bool {
	for _, page := range l.pages {
		if bytes.Contains(line, page) {
			return true
		}
	}
	return len(bytes.TrimSpace(line)) == 0 || l.chatter != nil && l.chatter.Match(line)
}

// chance is one question for a token beside the looks at the engine.
type chance struct {
	over chan struct{}
	err  error // why no token came; valid once over is closed
}

// lastChance asks an engine of which nothing moves for one token. One that offers none is asked for its health with the same
// patience. What answers with errors is asked again, and has failed with the last of them. One that cannot be asked, for lack
// of a port, say, or since its key is another than ours by now, has not failed.
func (r *run) lastChance(ctx context.Context, ask *probe.Prober, limit time.Duration) *chance {
	c := &chance{over: make(chan struct{})}
	go func() {
		defer close(c.over)
		ctx, cancel := context.WithTimeoutCause(ctx, limit, probe.ErrNoAnswer)
		defer cancel()
		err := r.askLast(ctx, ask.Within(limit))
		if _, refused := errors.AsType[*probe.UnauthorizedError](err); refused || probe.Unasked(err) {
			err = nil
		}
		c.err = err
	}()
	return c
}

func (r *run) askLast(ctx context.Context, ask *probe.Prober) (err error) {
	const tries = 3
	spec := r.rec.Launch.Spec
	for range tries {
		if spec.Answer == nil {
			var a probe.Answer
			if a, err = ask.Get(ctx, spec.Health, probe.MaxHealthBody); err == nil && a.Status >= http.StatusInternalServerError {
				err = fmt.Errorf("%s answers %s", spec.Health, a)
			}
		} else {
			_, err = ask.AskToken(ctx, spec.Answer.Path, spec.Answer.Body, spec.MustAnswer)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
	return err
}

// add tells in f where the question stands. It reports whether it is over.
func (c *chance) add(f *life.Facts) (over bool) {
	if c == nil {
		return false
	}
	select {
	case <-c.over:
		f.Token = life.TokenCame
		if c.err != nil {
			f.Token, f.TokenSaid = life.TokenMissed, c.err.Error()
		}
		return true
	default:
		f.Token = life.TokenAwaited
		return false
	}
}
