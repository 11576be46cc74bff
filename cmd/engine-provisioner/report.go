package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/table"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/usage"
)

// reporter tells of a run as it goes. Whatever is told is queued and written by one goroutine: a launch waits for its
// event function, and a reader of our output that has stopped reading must not keep an engine from being stopped.
type reporter struct {
	*cli
	display *display

	mu     sync.Mutex
	queue  []func()
	closed bool
	wake   chan struct{} // holds one token when the queue has something
	done   chan struct{}

	// Of the goroutine alone.
	engines  *fleet.Fleet
	loading  map[string]time.Time // when the load began, by the replica's name
	progress map[string]report.Progress
	meter    *usage.Meter // nil where loads cannot be measured
	measured time.Time
	isSteady bool // everything was ready once: from now on a failure is followed by a restart
}

func (c *cli) newReporter() *reporter {
	r := &reporter{
		cli: c, display: newDisplay(c.screen, c.output.json), loading: map[string]time.Time{}, progress: map[string]report.Progress{},
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go r.work()
	return r
}

// do queues f.
func (r *reporter) do(f func()) {
	r.mu.Lock()
	r.queue = append(r.queue, f)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// close returns when everything is written.
func (r *reporter) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.do(func() {})
	<-r.done
}

func (r *reporter) work() {
	defer close(r.done)
	ticker := time.NewTicker(r.display.interval())
	defer ticker.Stop()
	busy := false
	for {
		// Nothing ticks while nothing loads: an idle fleet costs no CPU time.
		var tick <-chan time.Time
		was := busy
		if busy = len(r.loading) > 0 && !r.output.json; busy {
			if !was { // a tick of the idle time would tell of a load that has just begun
				ticker.Reset(r.display.interval())
			}
			tick = ticker.C
		}
		select {
		case <-r.wake:
		case <-tick:
			r.display.show(r.loads())
		}
		r.mu.Lock()
		queue, closed := r.queue, r.closed
		r.queue = nil
		r.mu.Unlock()
		if len(queue) == 0 {
			continue
		}
		r.display.clear()
		for _, f := range queue {
			f()
		}
		if closed {
			return
		}
		r.display.redraw(r.loads)
	}
}

// watch says whose engines are reported on.
func (r *reporter) watch(engines *fleet.Fleet) {
	r.do(func() {
		r.engines = engines
		r.meter, _ = usage.NewMeter(engines.StateDir()) // without it, loads are shown without how far they are
	})
}

// steady says that from now on a failure is followed by a restart, and to who sits there how many are ready.
func (r *reporter) steady(standing string) {
	r.do(func() {
		r.isSteady = true
		if r.display.size != nil && standing != "" {
			fmt.Fprintln(r.std.err, standing+"; Ctrl-C stops them")
		}
	})
}

// say tells people something.
func (r *reporter) say(text string) {
	r.do(func() {
		if !r.output.json {
			fmt.Fprintln(r.std.err, text)
		}
	})
}

// fail tells an error.
func (r *reporter) fail(err error) { r.do(func() { r.reportError(err) }) }

// prepared says that a replica is prepared, or has failed to be.
func (r *reporter) prepared(name string) {
	r.do(func() {
		delete(r.loading, name)
		delete(r.progress, name)
	})
}

// event tells an event.
func (r *reporter) event(e provisioner.Event) { r.do(func() { r.tell(e) }) }

func (r *reporter) tell(e provisioner.Event) {
	name := e.Pool + "/" + e.Replica
	var before report.Progress
	switch e.Kind {
	case provisioner.EventProgress:
		before = r.progress[name]
		r.progress[name] = *e.Progress
		if _, ok := r.loading[name]; !ok {
			r.loading[name] = e.Time
		}
	case provisioner.EventState:
		delete(r.progress, name)
		switch e.State {
		case provisioner.StatePreparing:
			r.loading[name] = e.Time
		case provisioner.StateStarting:
		default:
			delete(r.loading, name)
		}
	}
	if r.output.json {
		_ = writeJSON(r.std.out, e) // where stdout is gone there is nobody to tell
		if e.Err != nil {
			r.reportError(about(name, e.Err))
		}
		return
	}
	if e.Pool == "" { // it is about all of them
		name = "engine-provisioner"
	}
	switch {
	case e.Kind == provisioner.EventProgress:
		began := e.Progress.Step != before.Step || e.Progress.What != before.What || e.Progress.Waiting != before.Waiting ||
			e.Progress.Holder != before.Holder
		if began && r.display.size == nil { // a terminal shows it anyway
			fmt.Fprintf(r.std.err, "%s: %s\n", name, e.Progress)
		}
	case e.Kind == provisioner.EventRestart:
		r.reportError(about(name, e.Err))
		if r.isSteady {
			fmt.Fprintf(r.std.err, "%s: %s\n", name, outlook(e))
		}
	case e.Kind == provisioner.EventRecovery:
		fmt.Fprintf(r.std.err, "%s: %s\n", name, foundText(e.Message))
		if e.Err != nil { // it serves, but is not what its settings call ready
			r.reportError(about(name, e.Err))
		} else if e.Handoff != nil {
			fmt.Fprintln(r.std.out, readyText(name, e.Handoff.URL, e.Handoff))
		}
	case e.Kind == provisioner.EventNote:
		fmt.Fprintf(r.std.err, "%s: note: %s\n", name, r.inWords(e.Message))
	case e.State == provisioner.StateReady:
		fmt.Fprintln(r.std.out, readyText(name, e.Message, e.Handoff))
	case e.State == provisioner.StateFailed: // its error is told
	case e.State == provisioner.StateStarting:
		fmt.Fprintf(r.std.err, "%s: starting (pid %d)\n", name, e.PID)
	case e.Message != "":
		fmt.Fprintf(r.std.err, "%s: %s (%s)\n", name, e.State, e.Message)
	default:
		fmt.Fprintf(r.std.err, "%s: %s\n", name, e.State)
	}
}

// readyText says that a replica is ready, and what clients are to be told of it.
func readyText(name, url string, h *provisioner.Handoff) string {
	text := name + " ready " + url
	if h != nil && h.OpenAIURL != "" {
		text += " (OpenAI API: " + h.OpenAIURL + ")"
	}
	return text
}

// foundText says what became of an engine that an earlier run left. What else is told of it follows the result.
func foundText(result string) string {
	if rest, gone := strings.CutPrefix(result, string(report.RecoveredGone)); gone {
		return "the engine of an earlier manager is gone" + rest
	}
	return "found, " + result
}

// outlook says what follows a failure.
func outlook(e provisioner.Event) string {
	if e.Restarts.Phase == report.PhaseFailed {
		return "given up"
	}
	wait := e.Restarts.RetryAt.Sub(e.Time).Round(100 * time.Millisecond)
	if e.Restarts.Phase == report.PhaseOpen {
		return fmt.Sprintf("%d starts in a row failed; the next one is in %s", e.Restarts.Failures+e.Restarts.Trials, wait)
	}
	if wait <= 0 {
		return "starting again at once"
	}
	return fmt.Sprintf("starting again in %s", wait)
}

// loads are the replicas that are not ready yet.
func (r *reporter) loads() []load {
	var all []load
	if r.engines == nil { // nothing is started, only prepared
		for _, name := range slices.Sorted(maps.Keys(r.loading)) {
			l := load{name: name, state: provisioner.StatePreparing, since: r.loading[name]}
			if p, ok := r.progress[name]; ok {
				l.done, l.heard = table.Done(p), p.String()
			}
			all = append(all, l)
		}
		return all
	}
	var now []provisioner.Status
	for _, s := range r.engines.Status() {
		if _, loading := r.loading[s.ID().String()]; loading {
			now = append(now, s)
		}
	}
	r.measure(now)
	for _, s := range now {
		name := s.ID().String()
		l := load{name: name, state: s.State, since: r.loading[name], heard: s.Heard, log: s.Log}
		if p, ok := r.progress[name]; ok {
			l.done = table.Done(p)
			if p.Step != report.StepLoad {
				l.heard, l.log = p.String(), "" // it would be that of the launch before
			}
		}
		all = append(all, l)
	}
	return all
}

// measureInterval is how often it is measured how far loads are.
const measureInterval = time.Second

// measure keeps how far loads are.
func (r *reporter) measure(loading []provisioner.Status) {
	if r.meter == nil || len(loading) == 0 || time.Since(r.measured) < measureInterval {
		return
	}
	r.measured = time.Now()
	if err := fleet.Measure(context.Background(), r.meter, loading); err != nil {
		return
	}
	for _, s := range loading {
		if s.Progress != nil && s.Progress.Step == report.StepLoad {
			r.progress[s.ID().String()] = *s.Progress
		}
	}
}
