package life

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// look is what is seen every 10 seconds. The functions below change one thing of an idle engine that answers.
func look(change ...func(*Facts)) Facts {
	f := Facts{Answer: Fine, Page: "/health", CPU: time.Second, Memory: 1 << 30, Log: 1000, Work: &Work{Tokens: 100}}
	for _, c := range change {
		c(&f)
	}
	return f
}

func silent(f *Facts)  { f.Answer, f.Said, f.Work = Silence, "no answer in time", nil }
func refused(f *Facts) { f.Answer, f.Said, f.Work = Refused, "connection refused", nil }
func failed(f *Facts)  { f.Answer, f.Said = Mistaken, "500 Internal Server Error" }
func asleep(f *Facts)  { f.Asleep, f.Work = true, nil }
func stopped(f *Facts) { f.Answer, f.Held, f.Work = Silence, "SIGSTOP", nil }
func missed(f *Facts)  { f.Token, f.TokenSaid = TokenMissed, "no answer in time" }
func awaited(f *Facts) { f.Token = TokenAwaited }
func came(f *Facts)    { f.Token = TokenCame }

func requests(n int) func(*Facts)           { return func(f *Facts) { f.Work.Requests = n } }
func tokens(n float64) func(*Facts)         { return func(f *Facts) { f.Work.Tokens = n } }
func cpu(d time.Duration) func(*Facts)      { return func(f *Facts) { f.CPU += d } }
func main(d time.Duration) func(*Facts)     { return func(f *Facts) { f.Main = d + 1 } }
func logged(n int64) func(*Facts)           { return func(f *Facts) { f.Log += n } }
func memory(n int64) func(*Facts)           { return func(f *Facts) { f.Memory += n } }
func uncounted(f *Facts)                    { f.Work = nil }
func times(n int, f Facts) (all []Facts)    { return each(n, func(int) Facts { return f }) }
func each(n int, f func(int) Facts) []Facts { return appendEach(nil, n, f) }
func appendEach(all []Facts, n int, f func(int) Facts) []Facts {
	for i := range n {
		all = append(all, f(i))
	}
	return all
}

func join(parts ...[]Facts) (all []Facts) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const period = 10 * time.Second
	limits := Limits{IdleAfter: 5 * time.Minute}
	quarter := each(12, func(i int) Facts { return look(silent, cpu(time.Duration(i)*2500*time.Millisecond)) })
	tests := map[string]struct {
		looks  []Facts
		life   Life
		ask    bool
		works  bool
		reason string
	}{
		"answers":                    {times(3, look()), Working, false, false, ""},
		"gone":                       {[]Facts{look(), {Gone: true}}, Gone, false, false, "has ended"},
		"one refusal":                {[]Facts{look(), look(refused)}, Busy, false, false, "connection refused"},
		"two refusals":               {join(times(1, look()), times(2, look(refused))), Busy, false, false, "connection refused"},
		"three refusals":             {join(times(1, look()), times(3, look(refused))), Failing, false, false, "3 health checks in a row failed, the last one with: connection refused"},
		"three errors":               {join(times(1, look()), times(3, look(failed))), Failing, false, false, "500"},
		"errors with an answer amid": {join(times(2, look(failed)), times(1, look()), times(2, look(failed))), Busy, false, false, "500"},
		"errors while tokens come":   {each(9, func(i int) Facts { return look(failed, tokens(float64(i))) }), Busy, false, true, "500"},
		"silent for a while":         {times(5, look(silent)), Busy, false, false, "/health unanswered for 40s"},
		"silent at its first look":   {times(1, look(silent)), Busy, false, false, "/health unanswered for 0s"},
		"saturated":                  {quarter, Busy, false, true, "/health unanswered for 1m50s, and it works (CPU time)"},
		"silent and logs":            {each(30, func(i int) Facts { return look(silent, logged(int64(i))) }), Busy, false, true, "log lines"},
		"silent and loads": {
			each(30, func(i int) Facts { return look(silent, memory(int64(i)<<21)) }), Busy, false, true, "memory",
		},
		"silent and still":                 {times(13, look(silent)), Busy, true, false, "unanswered for 2m0s"},
		"silent, still and a token wanted": {join(times(13, look(silent)), times(9, look(silent, awaited))), Busy, true, false, "unanswered"},
		"silent, still and without a token": {
			join(times(13, look(silent)), times(1, look(silent, missed))), Wedged, false, false,
			"/health unanswered for 2m0s, but without a token: no answer in time; nothing of it has moved for 2m10s (no token, no CPU time, no log line)",
		},
		"a token comes":                  {join(times(13, look(silent)), times(1, look(silent, came))), Busy, false, true, "and it works (a token)"},
		"it moves while a token is due":  {join(times(13, look(silent)), times(1, look(silent, awaited, logged(1))), times(1, look(silent, logged(1), missed))), Busy, false, true, "log lines"},
		"it stands again after it moved": {join(times(13, look(silent)), times(13, look(silent, awaited, logged(1))), times(1, look(silent, logged(1), missed))), Wedged, false, true, "for 2m10s"},
		"answers, and works on nothing":  {times(13, look(requests(2))), Working, true, false, ""},
		"answers, and is wedged": {
			join(times(13, look(requests(2))), times(1, look(requests(3), missed))), Wedged, false, false, "at work on 2 requests by its own account, but",
		},
		"works on a long prompt":       {each(60, func(i int) Facts { return look(requests(1), cpu(time.Duration(i)*period)) }), Working, false, false, ""},
		"works by its counters":        {each(60, func(i int) Facts { return look(requests(1), tokens(float64(i))) }), Working, false, false, ""},
		"a little CPU time is no work": {each(60, func(i int) Facts { return look(requests(1), cpu(time.Duration(i)*period/25)) }), Working, true, false, ""},
		"the memory of those who wait": {each(60, func(i int) Facts { return look(requests(i), memory(int64(i)<<21)) }), Working, true, false, ""},
		"works by its main process":    {each(60, func(i int) Facts { return look(requests(1), main(time.Duration(i)*period)) }), Working, false, false, ""},
		"at work, and not asked each time": {
			join(times(1, look(requests(1))), times(12, look(uncounted))), Working, true, false, "",
		},
		"was at work, and answers that it is done": {join(times(1, look(requests(1))), times(14, look())), Working, false, false, ""},
		"work comes after long idleness": {
			join(times(20, look()), times(12, look(requests(1)))), Working, false, false, "",
		},
		"idle for long":                       {times(31, look()), Working, true, false, ""},
		"idle for long, and gives its token":  {join(times(31, look()), times(1, look(came)), times(29, look())), Working, false, false, ""},
		"idle for long, and wedged":           {join(times(31, look()), times(2, look(awaited, requests(1))), times(1, look(missed))), Wedged, false, false, "idle, but without a token: no answer in time"},
		"idle, and its requests not counted":  {times(60, look(requests(-1))), Working, false, false, ""},
		"idle, and its metrics not read":      {times(60, look(uncounted)), Working, false, false, ""},
		"asleep":                              {times(90, look(asleep)), Working, false, false, ""},
		"awake after a long sleep":            {join(times(90, look(asleep)), times(20, look())), Working, false, false, ""},
		"suspended":                           {times(90, look(stopped)), Suspended, false, false, "the engine is suspended (SIGSTOP)"},
		"goes on after a long suspension":     {join(times(90, look(stopped)), times(12, look(silent))), Busy, false, false, "unanswered for 1m50s"},
		"suspended after refusals":            {join(times(2, look(refused)), times(1, look(stopped)), times(2, look(refused))), Busy, false, false, "refused"},
		"counters that begin anew are a sign": {join(times(12, look(requests(1))), times(12, look(requests(1), tokens(0)))), Working, false, false, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := New(limits)
			var v Verdict
			for i, f := range test.looks {
				v = j.See(start.Add(time.Duration(i)*period), f)
			}
			if v.Life != test.life || v.Ask != test.ask || v.Works != test.works || !strings.Contains(v.Reason, test.reason) || test.reason == "" && v.Reason != "" {
				t.Errorf("%+v; want %s, ask %t, works %t, %q", v, test.life, test.ask, test.works, test.reason)
			}
		})
	}
}

// Tokens that others get are an answer for who waits for one of its own.
func TestTokensAreCounted(t *testing.T) {
	t.Parallel()
	var j Judge
	for i, want := range []float64{0, 0, 5, 6} {
		v := j.See(start.Add(time.Duration(i)*time.Second), look(tokens([]float64{7, 7, 12, 3}[i])))
		if v.Tokens != want {
			t.Errorf("look %d: %+v", i, v)
		}
	}
}

// world makes looks up, at odd times.
type world struct {
	*rand.Rand
	now   time.Time
	facts Facts
	work  Work
}

func (w *world) next(mode int) Facts {
	passed := time.Duration(w.Int64N(int64(15 * time.Second)))
	w.now = w.now.Add(passed)
	w.facts.Answer = []Answer{Silence, Fine, Fine, Silence, Mistaken}[mode%5]
	w.facts.Page, w.facts.Said = "/health", "something"
	w.work.Requests = w.IntN(3)
	w.facts.Work = nil
	if w.IntN(3) > 0 {
		account := w.work
		w.facts.Work = &account
	}
	return w.facts
}

// An engine that moves is never ended for its silence: not with any order of answers, and not by a token that did not come.
func TestNeverWedgedWhileItMoves(t *testing.T) {
	t.Parallel()
	moves := map[string]func(w *world, passed time.Duration){
		"tokens": func(w *world, _ time.Duration) { w.work.Tokens++ },
		"CPU":    func(w *world, passed time.Duration) { w.facts.CPU += passed/10 + 20*time.Millisecond },
		"log":    func(w *world, _ time.Duration) { w.facts.Log++ },
	}
	for name, move := range moves {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(200) {
				w := &world{Rand: rand.New(rand.NewPCG(seed, 1)), now: start, facts: Facts{CPU: 1, Log: 1}}
				j := New(Limits{WedgedAfter: time.Minute, IdleAfter: 5 * time.Minute})
				mode := 0
				for range 500 {
					if w.IntN(20) == 0 {
						mode = w.IntN(4)
					}
					before := w.now
					f := w.next(mode)
					move(w, w.now.Sub(before))
					f.CPU, f.Log = w.facts.CPU, w.facts.Log
					account := w.work
					f.Work = &account
					f.Token = Token(w.IntN(4))
					if v := j.See(w.now, f); v.Life == Wedged {
						t.Fatalf("seed %d: %+v with %+v", seed, v, f)
					}
				}
			}
		})
	}
}

// Whatever is seen: who is suspended, asleep or gone is told as that, who is ended has had its chance, and nobody is asked
// for a token who rests by right.
func TestVerdictsHold(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		w := &world{Rand: rand.New(rand.NewPCG(seed, 2)), now: start, facts: Facts{CPU: 1, Log: 1}}
		j := New(Limits{WedgedAfter: time.Minute, IdleAfter: 5 * time.Minute})
		mode, asked, failures := 0, false, 0
		for range 500 {
			if w.IntN(30) == 0 {
				mode = w.IntN(5)
			}
			f := w.next(mode)
			f.Asleep = f.Answer == Fine && w.IntN(50) == 0
			if w.IntN(50) == 0 {
				f.Held = "SIGSTOP"
			}
			if asked {
				f.Token = []Token{TokenAwaited, TokenAwaited, TokenAwaited, TokenMissed}[w.IntN(4)]
			}
			v := j.See(w.now, f)
			if f.Answer == Mistaken && f.Held == "" {
				failures++
			} else {
				failures = 0
			}
			switch held := f.Held != ""; {
			case held != (v.Life == Suspended),
				v.Life == Wedged && (!asked || f.Token != TokenMissed),
				v.Life == Failing && failures < 3,
				v.Life == Working && f.Answer != Fine,
				v.Ask && (held || f.Asleep),
				(v.Life == Working) != (v.Reason == ""):
				t.Fatalf("seed %d: %+v with %+v", seed, v, f)
			}
			asked = v.Ask
		}
	}
}

// What is wedged is found, whoever asks how often.
func TestWedgedIsFound(t *testing.T) {
	t.Parallel()
	for _, period := range []time.Duration{time.Millisecond * 100, time.Second, 10 * time.Second, time.Minute} {
		for name, f := range map[string]Facts{"silent": look(silent), "at work": look(requests(1)), "idle": look()} {
			t.Run(fmt.Sprint(name, period), func(t *testing.T) {
				t.Parallel()
				j := New(Limits{WedgedAfter: time.Minute, IdleAfter: 5 * time.Minute})
				var asked time.Time
				for now := start; ; now = now.Add(period) {
					f := f
					if !asked.IsZero() {
						f.Token = TokenAwaited
						if now.Sub(asked) > 30*time.Second {
							f.Token = TokenMissed
						}
					}
					v := j.See(now, f)
					if v.Ask && asked.IsZero() {
						asked = now
					}
					if v.Life == Wedged {
						return
					}
					if now.Sub(start) > 8*time.Minute {
						t.Fatalf("%+v", v)
					}
				}
			})
		}
	}
}
