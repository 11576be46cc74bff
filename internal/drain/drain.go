// Package drain waits for the requests in an engine that is to be stopped, by the engine's own count of them.
//
// Whoever stops an engine calls it, once the engine's handoff is removed and the hooks have run. It asks, and tells people what it
// waits for; it stops nothing.
package drain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

const (
	// confirm is the time between two readings of zero, which both are needed where clients are connected: a request that is
	// still being parsed is in no gauge of llama-server yet, and one that has just left them may have its last bytes to be sent.
	confirm = 100 * time.Millisecond
	// Scraping resets llama-server's averaged gauges, so each reading is a hole in the user's own monitoring: no more of
	// them than a stop needs.
	pollMin = 250 * time.Millisecond
	pollMax = time.Second
	// failures is how many refusals or errors in a row end the wait: a dying engine's connections break before its exit is
	// seen.
	failures = 2
)

// Why a drain ends before its time: the causes of its context.
var (
	ErrOver   = errors.New("the drain's time is over")
	ErrHurry  = errors.New("the drain was cut short")
	ErrExited = errors.New("the engine exited")
)

// Await waits until the engine has no request, and returns how that ended, for people. What ends badly is noted. limit is how long
// ctx lasts; its cause is one of the errors above. alone tells, once the gauges say zero, that no client is connected. An engine
// that gives no answer is busy: it is waited for until the drain's time is over, as long as it lives and refuses nothing.
func Await(ctx context.Context, count Count, alone func() bool, limit time.Duration, note func(string)) string {
	judge := life.New(life.Limits{Failures: failures})
	began := time.Now()
	known, zeros, suspended, silent := -1, 0, 0, false
	for {
		n, facts, err := count(ctx)
		if ctx.Err() != nil {
			return cutShort(context.Cause(ctx), limit, known, note)
		}
		if facts.Held != "" {
			suspended++
		} else {
			suspended = 0
		}
		wait := min(max(time.Since(began)/10, pollMin), pollMax)
		switch v := judge.See(time.Now(), facts); {
		case v.Life == life.Gone: // its watcher is about to see it, too
		case v.Life.Lost(), suspended >= failures:
			note("requests in flight are not waited for: " + err.Error())
			return ""
		case v.Life == life.Busy && facts.Answer == life.Silence && !silent:
			silent = true
			note(fmt.Sprintf("%s is unanswered, as by an engine that is full of requests; waiting for up to %s", facts.Page, limit))
		case v.Life != life.Working:
		case n > 0:
			if known < 0 {
				note(fmt.Sprintf("%s in flight; waiting for up to %s", requests(n), limit))
			}
			known, zeros = n, 0
		case zeros == 0 && known < 0 && !silent && alone():
			return ""
		case zeros == 0:
			zeros, wait = 1, confirm
		case known < 0 && !silent:
			return "" // there was nothing to wait for
		default:
			return fmt.Sprintf("drained in %s", time.Since(began).Round(time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return cutShort(context.Cause(ctx), limit, known, note)
		case <-time.After(wait):
		}
	}
}

// Settle lets an engine serve on for a time, for those who do not know yet that its handoff is gone, unless ctx ends.
func Settle(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Alone reports whether no client has a connection to the port of a process. Then it has no request: none that is still being
// parsed, and none whose last bytes are to be sent. It is false where that cannot be seen, as of a container's network.
func Alone(pid, port int) bool {
	for range 5 { // that of our own question may take a moment to go
		n, err := procfs.Connected(pid, uint16(port))
		if err != nil || n == 0 {
			return err == nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return false
}

// cutShort notes with what the drain ended before its time. known is the last count, negative when there is none.
func cutShort(cause error, limit time.Duration, known int, note func(string)) string {
	left := requests(known) + " in flight"
	if known < 0 {
		left = "an unknown number of requests in flight"
	}
	switch {
	case errors.Is(cause, ErrExited):
	case errors.Is(cause, ErrOver):
		note(fmt.Sprintf("the drain's %s are over with %s", limit, left))
	case known > 0:
		note(fmt.Sprintf("%v with %s", cause, left))
	}
	return ""
}

func requests(n int) string {
	if n == 1 {
		return "1 request"
	}
	return fmt.Sprintf("%d requests", n)
}

// Count counts the requests in the engine, with what can be said of its life meanwhile. The error is what there is to tell of
// facts that speak against it.
type Count func(context.Context) (int, life.Facts, error)

// Processes are those of the engine, as far as a count needs them.
type Processes interface {
	Exited() bool // of the main one
	Held() string // what suspends them; "" for nothing
}

// Counter counts by the gauges of spec, which it has. A first answer may take as long as ask allows.
func Counter(ask *probe.Prober, spec engine.LaunchSpec, of Processes) Count {
	timeout := ask.Timeout
	return func(ctx context.Context) (int, life.Facts, error) {
		n, err := ask.Within(timeout).Requests(ctx, probe.Field(spec.Asleep), probe.Series{Path: spec.Gauges.Path, Names: spec.Gauges.Names})
		facts := life.Facts{Gone: of.Exited(), Page: spec.Gauges.Path, Answer: life.Fine}
		var unanswered *probe.UnansweredError
		switch {
		case err == nil:
			timeout = ask.Timeout
			return n, facts, nil
		case errors.Is(err, probe.ErrNoAnswer):
			timeout = ask.Longer(timeout)
			facts.Answer = life.Silence
			if facts.Held = of.Held(); facts.Held != "" {
				err = fmt.Errorf("%w; the engine is suspended (%s)", err, facts.Held)
			}
		case errors.As(err, &unanswered):
			facts.Answer = life.Refused
		default:
			facts.Answer = life.Mistaken
		}
		return 0, facts, err
	}
}
