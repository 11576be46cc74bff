package life

import (
	"fmt"
	"time"
)

// Limits are how much doubt an engine has the benefit of.
type Limits struct {
	// Failures is how many refusals or errors in a row make it failing; 0 means 3.
	Failures int
	// WedgedAfter is how long nothing may move while there is work or no answer; 0 means 2 minutes.
	WedgedAfter time.Duration
	// IdleAfter is how long an engine that says that it has no work may go without having produced a token before it is asked
	// for one; 0 means for ever.
	IdleAfter time.Duration
}

const (
	defaultFailures    = 3
	defaultWedgedAfter = 2 * time.Minute
)

// Judge follows one engine from look to look. The zero value has the default limits. It is not safe for concurrent use.
type Judge struct {
	limits Limits
	seen   bool
	pace   pace

	failures int
	silent   time.Time // since when there is no answer; zero when there is one
	stuck    time.Time // since when there is work, or no answer; zero when there is neither
	requests int       // in it, when they were last counted
	spoke    time.Time // when the last token is known of
	doubt    string    // why a token is wanted; "" when it is not
}

// New returns a judge by limits.
func New(limits Limits) *Judge { return &Judge{limits: limits} }

// See takes in what was seen at a time, which is not before that of the last look, and judges by all that it has seen.
func (j *Judge) See(now time.Time, f Facts) Verdict {
	first := !j.seen
	j.seen = true
	if first {
		j.spoke = now
	}
	moved, tokens := j.pace.see(now, f)
	if f.Token == TokenCame {
		moved, tokens = "a token", true
		j.pace.mark(now, moved)
	}
	if tokens || f.Asleep {
		j.spoke = now
	}
	if moved != "" {
		j.doubt = ""
	}
	switch {
	case f.Gone:
		return Verdict{Life: Gone, Reason: "its main process has ended"}
	case f.Held != "":
		j.restart(now)
		return Verdict{Life: Suspended, Reason: "the engine is suspended (" + f.Held + ")", Tokens: j.pace.counted}
	case f.Asleep && f.Answer == Fine:
		j.restart(now)
		return Verdict{Life: Working, Tokens: j.pace.counted}
	}
	j.count(now, f, tokens)

	v := Verdict{Life: Working, Quiet: now.Sub(j.pace.moved), Tokens: j.pace.counted}
	if !j.silent.IsZero() {
		v.Life, v.Silent, v.Works = Busy, now.Sub(j.silent), j.pace.moved.After(j.silent)
		v.Reason = j.busy(v, f)
	}
	if j.failures >= orDefault(j.limits.Failures, defaultFailures) {
		v.Life, v.Reason = Failing, fmt.Sprintf("%d health checks in a row failed, the last one with: %s", j.failures, f.Said)
		return v
	}
	return j.last(now, f, v)
}

// count keeps what is counted over several looks.
func (j *Judge) count(now time.Time, f Facts, tokens bool) {
	switch {
	case f.Answer == Refused, f.Answer == Mistaken && !tokens: // what is given tokens is not failing, whatever it says
		j.failures++
	case f.Answer != Unasked:
		j.failures = 0
	}
	switch {
	case f.Answer == Fine:
		j.silent = time.Time{}
	case f.Answer != Unasked && j.silent.IsZero():
		j.silent = now
	}
	if f.Work != nil {
		j.requests = f.Work.Requests
	}
	switch busy := j.requests > 0; {
	case f.Answer == Fine && !busy:
		j.stuck = time.Time{}
	case j.stuck.IsZero() && (busy || f.Answer != Unasked):
		j.stuck = now
	}
}

// restart forgets what had gathered against the engine.
func (j *Judge) restart(now time.Time) {
	j.pace.mark(now, "")
	j.failures, j.requests, j.doubt = 0, 0, ""
	j.silent, j.stuck, j.spoke = time.Time{}, time.Time{}, now
}

// last decides about an engine of which nothing moves: a token is its last chance.
func (j *Judge) last(now time.Time, f Facts, v Verdict) Verdict {
	if j.doubt == "" {
		if j.doubt = j.suspicion(now, f, v); j.doubt == "" || f.Token == TokenMissed { // in which case that is of an earlier one
			return v
		}
	}
	v.Ask = f.Token != TokenMissed
	if !v.Ask {
		v.Life = Wedged
		v.Reason = fmt.Sprintf("%s, but without a token: %s; nothing of it has moved for %s (no token, no CPU time, no log line)",
			j.doubt, f.TokenSaid, whole(v.Quiet))
	}
	return v
}

// suspicion says why a token is to be asked for; "" when that is not so.
func (j *Judge) suspicion(now time.Time, f Facts, v Verdict) string {
	rest := time.Duration(0)
	if !j.stuck.IsZero() {
		rest = min(v.Quiet, now.Sub(j.stuck))
	}
	switch {
	case rest >= orDefault(j.limits.WedgedAfter, defaultWedgedAfter):
		if v.Silent > 0 {
			return fmt.Sprintf("%s unanswered for %s", f.Page, whole(v.Silent))
		}
		return fmt.Sprintf("at work on %s by its own account", counted(j.requests))
	case j.limits.IdleAfter > 0 && now.Sub(j.spoke) >= j.limits.IdleAfter && f.idle():
		return "idle"
	}
	return ""
}

// idle reports whether the engine answers and says that it has nothing to do.
func (f Facts) idle() bool { return f.Answer == Fine && f.Work != nil && f.Work.Requests == 0 }

func (j *Judge) busy(v Verdict, f Facts) string {
	switch {
	case f.Answer == Refused, f.Answer == Mistaken:
		return f.Said
	case v.Works:
		return fmt.Sprintf("%s unanswered for %s, and it works (%s)", f.Page, whole(v.Silent), j.pace.sign)
	default:
		return fmt.Sprintf("%s unanswered for %s", f.Page, whole(v.Silent))
	}
}

func counted(n int) string {
	if n == 1 {
		return "1 request"
	}
	return fmt.Sprintf("%d requests", n)
}

func whole(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second)
}

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
