package restart

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// usual is a policy with the numbers of a configuration that says nothing else.
func usual(p Policy) Policy {
	p.InitialDelay, p.MaxDelay, p.StableAfter = time.Second, time.Minute, 5*time.Minute
	p.Cooldown, p.CooldownMax = 5*time.Minute, 30*time.Minute
	if p.StartBurst == 0 {
		p.StartBurst = 5
	}
	return p
}

// TestOpenLimit proves that a breaker is not open for longer than it may, that the last start is at its end, and that a time of
// readiness begins it anew.
func TestOpenLimit(t *testing.T) {
	t.Parallel()
	p := usual(Policy{StartBurst: 1, OpenLimit: 12 * time.Minute})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var h History
	step := func(kind Kind, after time.Duration, random float64, want Decision, phase Phase, wait time.Duration) {
		t.Helper()
		now = now.Add(after)
		var got Decision
		if h, got = p.Next(h, Event{Kind: kind}, now, random); got != want || h.Phase != phase || h.Waits() && h.RetryAt.Sub(now) != wait {
			t.Fatalf("decision %d in phase %q until %s, want %d in %q until %s", got, h.Phase, h.RetryAt.Sub(now), want, phase, wait)
		}
	}
	step(Wanted, 0, 0, Launch, Running, 0)
	step(Ended, 0, 0, Wait, Open, 5*time.Minute)
	step(Due, 5*time.Minute, 0, Launch, Running, 0)
	step(Ended, time.Minute, 0.99, Wait, Open, 6*time.Minute) // and not 10
	step(Due, 6*time.Minute, 0, Launch, Running, 0)
	step(BecameReady, time.Second, 0, Nothing, Running, 0)
	step(Ended, time.Minute, 0, Wait, Open, 12*time.Minute) // and not 20: half open until stable
	step(Due, 12*time.Minute, 0, Launch, Running, 0)
	step(Ended, time.Second, 0, GiveUp, Failed, 0)
	step(Forgiven, 0, 0, Launch, Running, 0)
	step(Ended, time.Second, 0, Wait, Open, 5*time.Minute)
}

// TestPolicy walks the policy through lives of engines; the delays are those without jitter.
func TestPolicy(t *testing.T) {
	t.Parallel()
	c := usual(Policy{GiveUpAfter: 2})
	type step struct {
		e     Event
		after time.Duration // since the step before
		want  Decision
		phase Phase
		wait  time.Duration
	}
	run := Event{Kind: Wanted}
	crash := Event{Kind: Ended}
	ready := Event{Kind: BecameReady}
	tick := Event{Kind: Due}
	lives := map[string][]step{
		"crashes after readiness back off and never open the breaker": {
			{e: run, want: Launch, phase: Running},
			{e: ready, want: Nothing, phase: Running},
			{e: crash, want: Wait, phase: Backoff, wait: time.Second},
			{e: tick, after: 999 * time.Millisecond, want: Nothing, phase: Backoff},
			{e: tick, after: time.Millisecond, want: Launch, phase: Running},
			{e: ready, want: Nothing, phase: Running},
			{e: crash, after: time.Minute, want: Wait, phase: Backoff, wait: 2 * time.Second},
			{e: tick, after: 2 * time.Second, want: Launch, phase: Running},
			{e: ready, want: Nothing, phase: Running},
		},
		"the first crash of a stable engine does not wait": {
			{e: run, want: Launch, phase: Running},
			{e: crash, want: Wait, phase: Backoff, wait: time.Second},
			{e: tick, after: time.Second, want: Launch, phase: Running},
			{e: ready, want: Nothing, phase: Running},
			{e: crash, after: 5 * time.Minute, want: Wait, phase: Backoff, wait: 0},
			{e: tick, want: Launch, phase: Running},
			{e: ready, want: Nothing, phase: Running},
			{e: crash, after: 5*time.Minute - 1, want: Wait, phase: Backoff, wait: 2 * time.Second},
			{e: tick, after: 2 * time.Second, want: Launch, phase: Running},
			{e: ready, want: Nothing, phase: Running},
			{e: tick, after: 5 * time.Minute, want: Nothing, phase: Running}, // which may be told before the crash
			{e: crash, want: Wait, phase: Backoff, wait: 0},
			{e: tick, want: Launch, phase: Running},
			{e: crash, want: Wait, phase: Backoff, wait: 2 * time.Second},
		},
		"what hinders a stable engine is waited for": {
			{e: run, want: Launch, phase: Running},
			{e: ready, want: Nothing, phase: Running},
			{e: Event{Kind: Ended, Blameless: true}, after: 5 * time.Minute, want: Wait, phase: Backoff, wait: time.Second},
		},
		"five failed starts open the breaker": {
			{e: run, want: Launch, phase: Running},
			{e: crash, want: Wait, phase: Backoff, wait: time.Second},
			{e: tick, after: time.Second, want: Launch, phase: Running},
			{e: crash, want: Wait, phase: Backoff, wait: 2 * time.Second},
			{e: tick, after: 2 * time.Second, want: Launch, phase: Running},
			{e: crash, want: Wait, phase: Backoff, wait: 4 * time.Second},
			{e: tick, after: 4 * time.Second, want: Launch, phase: Running},
			{e: crash, want: Wait, phase: Backoff, wait: 8 * time.Second},
			{e: tick, after: 8 * time.Second, want: Launch, phase: Running},
			{e: crash, want: Wait, phase: Open, wait: 5 * time.Minute},
			{e: tick, after: time.Minute, want: Nothing, phase: Open},
			{e: tick, after: 4 * time.Minute, want: Launch, phase: Running},
			{e: ready, want: Nothing, phase: Running},
			{e: crash, after: time.Minute, want: Wait, phase: Open, wait: 10 * time.Minute}, // half open until stable
			{e: tick, after: 10 * time.Minute, want: Launch, phase: Running},
			{e: crash, want: GiveUp, phase: Failed},
			{e: tick, after: time.Hour, want: Nothing, phase: Failed},
			{e: Event{Kind: Forgiven}, want: Launch, phase: Running},
			{e: crash, want: Wait, phase: Backoff, wait: time.Second},
		},
		"a permanent cause is not tried again": {
			{e: run, want: Launch, phase: Running},
			{e: Event{Kind: Ended, Permanent: true}, want: GiveUp, phase: Failed},
			{e: run, want: Launch, phase: Running},
		},
		"not even after a stop": {
			{e: run, want: Launch, phase: Running},
			{e: Event{Kind: Unwanted}, want: Nothing, phase: Stopped},
			{e: run, want: Launch, phase: Running},
			{e: Event{Kind: Ended, Permanent: true}, want: GiveUp, phase: Failed},
		},
		"what kills a ready engine is tried again, whatever it is": {
			{e: run, want: Launch, phase: Running},
			{e: ready, want: Nothing, phase: Running},
			{e: Event{Kind: Ended, Permanent: true}, want: Wait, phase: Backoff, wait: time.Second},
		},
		"what is not the engine's fault does not count": {
			{e: run, want: Launch, phase: Running},
			{e: Event{Kind: Ended, Blameless: true}, want: Wait, phase: Backoff, wait: time.Second},
			{e: tick, after: time.Second, want: Launch, phase: Running},
			{e: Event{Kind: Ended, Blameless: true}, want: Wait, phase: Backoff, wait: 2 * time.Second},
			{e: tick, after: 2 * time.Second, want: Launch, phase: Running},
			{e: crash, want: Wait, phase: Backoff, wait: time.Second},
			{e: tick, after: time.Second, want: Launch, phase: Running},
			{e: Event{Kind: Ended, Blameless: true}, want: Wait, phase: Backoff, wait: time.Second},
		},
		"a stop wins": {
			{e: run, want: Launch, phase: Running},
			{e: crash, want: Wait, phase: Backoff, wait: time.Second},
			{e: Event{Kind: Unwanted}, want: Nothing, phase: Stopped},
			{e: tick, after: time.Hour, want: Nothing, phase: Stopped},
			{e: crash, want: Nothing, phase: Stopped},
		},
	}
	for name, life := range lives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s History
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			for i, step := range life {
				now = now.Add(step.after)
				var got Decision
				s, got = c.Next(s, step.e, now, 0)
				if got != step.want || s.Phase != step.phase {
					t.Fatalf("step %d: decision %d in phase %q, want %d in %q", i, got, s.Phase, step.want, step.phase)
				}
				if got == Wait && s.RetryAt.Sub(now) != step.wait {
					t.Fatalf("step %d: waits %s, want %s", i, s.RetryAt.Sub(now), step.wait)
				}
			}
		})
	}
}

func TestNever(t *testing.T) {
	t.Parallel()
	c := usual(Policy{Never: true})
	s, _ := c.Next(History{}, Event{Kind: Wanted}, time.Now(), 0)
	if s, d := c.Next(s, Event{Kind: Ended}, time.Now(), 0); d != GiveUp || s.Phase != Failed {
		t.Errorf("decision %d in phase %q", d, s.Phase)
	}
}

// What has been ready with its settings is never hopeless: what was away can come back.
func TestServed(t *testing.T) {
	t.Parallel()
	c := usual(Policy{})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	h, _ := c.Next(History{Served: true}, Event{Kind: Wanted}, now, 0)
	var phases []Phase
	for range 8 {
		var d Decision
		if h, d = c.Next(h, Event{Kind: Ended, Permanent: true}, now, 0); d != Wait {
			t.Fatalf("decision %d in phase %q after %v", d, h.Phase, phases)
		}
		phases = append(phases, h.Phase)
		now = h.RetryAt
		if h, d = c.Next(h, Event{Kind: Due}, now, 0); d != Launch {
			t.Fatalf("decision %d when the time has come", d)
		}
	}
	want := []Phase{Backoff, Backoff, Backoff, Backoff, Open, Open, Open, Open}
	if !slices.Equal(phases, want) || h.Trials != 3 {
		t.Errorf("phases %v, want %v; %+v", phases, want, h)
	}
	h, _ = c.Next(h, Event{Kind: Forgiven}, now, 0)
	if !h.Served || h.Failures != 0 {
		t.Errorf("forgiven: %+v", h)
	}
	// Whoever wants no restart gets none.
	if _, d := usual(Policy{Never: true}).Next(h, Event{Kind: Ended}, now, 0); d != GiveUp {
		t.Errorf("decision %d", d)
	}
}

// A readiness is told again when a launch changes hands, and does not begin anew by that.
func TestReadyTwice(t *testing.T) {
	t.Parallel()
	c := usual(Policy{})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	h, _ := c.Next(History{}, Event{Kind: Wanted}, now, 0)
	h, _ = c.Next(h, Event{Kind: BecameReady}, now, 0)
	if again, _ := c.Next(h, Event{Kind: BecameReady}, now.Add(time.Hour), 0); again != h {
		t.Errorf("%+v became %+v", h, again)
	}
}

// TestInvariants lets anything happen at any time.
func TestInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := usual(Policy{
			StartBurst: rapid.IntRange(0, 6).Draw(t, "burst"), GiveUpAfter: rapid.IntRange(0, 3).Draw(t, "give up"),
		})
		s := History{Served: rapid.Bool().Draw(t, "served")}
		served := s.Served
		now := time.Unix(1e9, 0)
		live := 0 // launches at once
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(40*time.Minute)).Draw(t, "passed")))
			e := Event{
				Kind:      Kind(rapid.IntRange(int(Wanted), int(Forgiven)).Draw(t, "what")),
				Permanent: rapid.Bool().Draw(t, "permanent"), Blameless: rapid.Bool().Draw(t, "blameless"),
			}
			if (e.Kind == Ended || e.Kind == BecameReady) && live == 0 {
				continue // only a launch can end or become ready
			}
			before := s
			var d Decision
			s, d = c.Next(s, e, now, rapid.Float64Range(0, 0.999).Draw(t, "random"))
			if e.Kind == Ended || e.Kind == Unwanted || e.Kind == Wanted { // whoever wants a new launch has ended the present one
				live = 0
			}
			if d == Launch {
				live++
			}
			if live > 1 {
				t.Fatalf("two launches at once after %+v", before)
			}
			switch {
			case s.Served != served:
				t.Fatal("the policy has changed what was served")
			case d == GiveUp && served && c.GiveUpAfter == 0:
				t.Fatalf("given up, and it has served: %+v after %+v", s, e)
			case (live == 1) != (s.Phase == Running):
				t.Fatalf("%d launches in phase %q", live, s.Phase)
			case d == Wait:
				delay := s.RetryAt.Sub(now)
				most := max(c.MaxDelay, c.CooldownMax)
				stable := !before.ReadyAt.IsZero() && now.Sub(before.ReadyAt) >= c.StableAfter
				if delay < c.InitialDelay && !stable || delay > most+most/4 {
					t.Fatalf("waits %s", delay)
				}
				if s.Phase == Open && delay < c.Cooldown {
					t.Fatalf("an open breaker waits %s", delay)
				}
			case before.Phase == Stopped && d == Launch && e.Kind != Wanted && e.Kind != Forgiven:
				t.Fatal("a stopped replica was started by itself")
			case (before.Phase == Open || before.Phase == Backoff) && d == Launch && e.Kind == Due && now.Before(before.RetryAt):
				t.Fatal("started too soon")
			}
			if (s.Phase == Backoff || s.Phase == Open) == s.RetryAt.IsZero() {
				t.Fatalf("phase %q with the next try at %s: it would wait for ever, or not at all", s.Phase, s.RetryAt)
			}
		}
	})
}

// TestServes is the reason for two budgets, simulated over a day: an engine that loads for a minute and crashes
// after two serves half of the time.
func TestServes(t *testing.T) {
	t.Parallel()
	c := usual(Policy{})
	serve := func(load, life time.Duration) (served time.Duration, starts int) {
		now := time.Unix(1e9, 0)
		end := now.Add(24 * time.Hour)
		s, d := c.Next(History{}, Event{Kind: Wanted}, now, 0.5)
		for now.Before(end) {
			if d == Launch {
				starts++
				now = now.Add(load)
				if life > 0 {
					s, _ = c.Next(s, Event{Kind: BecameReady}, now, 0.5)
					now = now.Add(life)
					served += life
				}
				s, _ = c.Next(s, Event{Kind: Ended}, now, 0.5)
			}
			now = s.RetryAt
			s, d = c.Next(s, Event{Kind: Due}, now, 0.5)
		}
		return served, starts
	}
	served, starts := serve(time.Minute, 2*time.Minute)
	t.Logf("loads 1 m, ready 2 m: %d starts, serving %.1f %%", starts, 100*served.Hours()/24)
	if share := served.Hours() / 24; share < 0.45 {
		t.Errorf("serves %.1f %% of the time", 100*share)
	}
	_, starts = serve(time.Second, 0)
	t.Logf("dies at once: %d starts a day", starts)
	if starts > 60 {
		t.Errorf("%d starts a day of an engine that dies at once", starts)
	}
}
