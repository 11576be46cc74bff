package provisioner

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestRestartPolicy walks the policy through lives of engines; the delays are those without jitter.
func TestRestartPolicy(t *testing.T) {
	t.Parallel()
	c := RestartConfig{GiveUpAfter: 2}.withDefaults()
	type step struct {
		e     incident
		after time.Duration // since the step before
		want  decision
		phase Phase
		wait  time.Duration
	}
	run := incident{what: wanted}
	crash := incident{what: ended, text: "boom"}
	ready := incident{what: becameReady}
	tick := incident{what: due}
	lives := map[string][]step{
		"crashes after readiness back off and never open the breaker": {
			{e: run, want: launchNow, phase: PhaseRunning},
			{e: ready, want: nothing, phase: PhaseRunning},
			{e: crash, want: waitUntil, phase: PhaseBackoff, wait: time.Second},
			{e: tick, after: 999 * time.Millisecond, want: nothing, phase: PhaseBackoff},
			{e: tick, after: time.Millisecond, want: launchNow, phase: PhaseRunning},
			{e: ready, want: nothing, phase: PhaseRunning},
			{e: crash, after: time.Minute, want: waitUntil, phase: PhaseBackoff, wait: 2 * time.Second},
			{e: tick, after: 2 * time.Second, want: launchNow, phase: PhaseRunning},
			{e: ready, want: nothing, phase: PhaseRunning},
			{e: crash, after: 5 * time.Minute, want: waitUntil, phase: PhaseBackoff, wait: time.Second}, // it had been stable
		},
		"five failed starts open the breaker": {
			{e: run, want: launchNow, phase: PhaseRunning},
			{e: crash, want: waitUntil, phase: PhaseBackoff, wait: time.Second},
			{e: tick, after: time.Second, want: launchNow, phase: PhaseRunning},
			{e: crash, want: waitUntil, phase: PhaseBackoff, wait: 2 * time.Second},
			{e: tick, after: 2 * time.Second, want: launchNow, phase: PhaseRunning},
			{e: crash, want: waitUntil, phase: PhaseBackoff, wait: 4 * time.Second},
			{e: tick, after: 4 * time.Second, want: launchNow, phase: PhaseRunning},
			{e: crash, want: waitUntil, phase: PhaseBackoff, wait: 8 * time.Second},
			{e: tick, after: 8 * time.Second, want: launchNow, phase: PhaseRunning},
			{e: crash, want: waitUntil, phase: PhaseOpen, wait: 5 * time.Minute},
			{e: tick, after: time.Minute, want: nothing, phase: PhaseOpen},
			{e: tick, after: 4 * time.Minute, want: launchNow, phase: PhaseRunning},
			{e: ready, want: nothing, phase: PhaseRunning},
			{e: crash, after: time.Minute, want: waitUntil, phase: PhaseOpen, wait: 10 * time.Minute}, // half open until stable
			{e: tick, after: 10 * time.Minute, want: launchNow, phase: PhaseRunning},
			{e: crash, want: giveUp, phase: PhaseFailed},
			{e: tick, after: time.Hour, want: nothing, phase: PhaseFailed},
			{e: incident{what: forgiven}, want: launchNow, phase: PhaseRunning},
			{e: crash, want: waitUntil, phase: PhaseBackoff, wait: time.Second},
		},
		"a permanent cause is not tried again": {
			{e: run, want: launchNow, phase: PhaseRunning},
			{e: incident{what: ended, permanent: true}, want: giveUp, phase: PhaseFailed},
			{e: run, want: launchNow, phase: PhaseRunning},
		},
		"what is not the engine's fault does not count": {
			{e: run, want: launchNow, phase: PhaseRunning},
			{e: incident{what: ended, blameless: true}, want: waitUntil, phase: PhaseBackoff, wait: time.Second},
			{e: tick, after: time.Second, want: launchNow, phase: PhaseRunning},
			{e: incident{what: ended, blameless: true}, want: waitUntil, phase: PhaseBackoff, wait: 2 * time.Second},
			{e: tick, after: 2 * time.Second, want: launchNow, phase: PhaseRunning},
			{e: crash, want: waitUntil, phase: PhaseBackoff, wait: time.Second},
			{e: tick, after: time.Second, want: launchNow, phase: PhaseRunning},
			{e: incident{what: ended, blameless: true}, want: waitUntil, phase: PhaseBackoff, wait: time.Second},
		},
		"a stop wins": {
			{e: run, want: launchNow, phase: PhaseRunning},
			{e: crash, want: waitUntil, phase: PhaseBackoff, wait: time.Second},
			{e: incident{what: unwanted}, want: nothing, phase: PhaseStopped},
			{e: tick, after: time.Hour, want: nothing, phase: PhaseStopped},
			{e: crash, want: nothing, phase: PhaseStopped},
		},
	}
	for name, life := range lives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s Restarts
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			for i, step := range life {
				now = now.Add(step.after)
				var got decision
				s, got = c.next(s, step.e, now, 0)
				if got != step.want || s.Phase != step.phase {
					t.Fatalf("step %d: decision %d in phase %q, want %d in %q", i, got, s.Phase, step.want, step.phase)
				}
				if got == waitUntil && s.RetryAt.Sub(now) != step.wait {
					t.Fatalf("step %d: waits %s, want %s", i, s.RetryAt.Sub(now), step.wait)
				}
			}
		})
	}
}

func TestRestartNever(t *testing.T) {
	t.Parallel()
	c := RestartConfig{Mode: "never"}.withDefaults()
	s, _ := c.next(Restarts{}, incident{what: wanted}, time.Now(), 0)
	if s, d := c.next(s, incident{what: ended}, time.Now(), 0); d != giveUp || s.Phase != PhaseFailed {
		t.Errorf("decision %d in phase %q", d, s.Phase)
	}
}

// TestRestartInvariants lets anything happen at any time.
func TestRestartInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := RestartConfig{
			StartBurst: rapid.IntRange(0, 6).Draw(t, "burst"), GiveUpAfter: rapid.IntRange(0, 3).Draw(t, "give up"),
		}.withDefaults()
		var s Restarts
		now := time.Unix(1e9, 0)
		live := 0 // launches at once
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(40*time.Minute)).Draw(t, "passed")))
			e := incident{
				what:      happening(rapid.IntRange(int(wanted), int(forgiven)).Draw(t, "what")),
				permanent: rapid.Bool().Draw(t, "permanent"), blameless: rapid.Bool().Draw(t, "blameless"),
			}
			if (e.what == ended || e.what == becameReady) && live == 0 {
				continue // only a launch can end or become ready
			}
			before := s
			var d decision
			s, d = c.next(s, e, now, rapid.Float64Range(0, 0.999).Draw(t, "random"))
			if e.what == ended || e.what == unwanted || e.what == wanted { // whoever wants a new launch has ended the present one
				live = 0
			}
			if d == launchNow {
				live++
			}
			if live > 1 {
				t.Fatalf("two launches at once after %+v", before)
			}
			switch {
			case (live == 1) != (s.Phase == PhaseRunning):
				t.Fatalf("%d launches in phase %q", live, s.Phase)
			case d == waitUntil:
				delay := s.RetryAt.Sub(now)
				most := time.Duration(max(c.MaxDelay, c.CooldownMax))
				if delay < time.Duration(c.InitialDelay) || delay > most+most/4 {
					t.Fatalf("waits %s", delay)
				}
				if s.Phase == PhaseOpen && delay < time.Duration(c.Cooldown) {
					t.Fatalf("an open breaker waits %s", delay)
				}
			case before.Phase == PhaseStopped && d == launchNow && e.what != wanted && e.what != forgiven:
				t.Fatal("a stopped replica was started by itself")
			case (before.Phase == PhaseOpen || before.Phase == PhaseBackoff) && d == launchNow && e.what == due && now.Before(before.RetryAt):
				t.Fatal("started too soon")
			}
			if (s.Phase == PhaseBackoff || s.Phase == PhaseOpen) == s.RetryAt.IsZero() {
				t.Fatalf("phase %q with the next try at %s: it would wait for ever, or not at all", s.Phase, s.RetryAt)
			}
		}
	})
}

// TestRestartServes is the reason for two budgets, simulated over a day: an engine that loads for a minute and crashes
// after two serves half of the time.
func TestRestartServes(t *testing.T) {
	t.Parallel()
	c := RestartConfig{}.withDefaults()
	serve := func(load, life time.Duration) (served time.Duration, starts int) {
		now := time.Unix(1e9, 0)
		end := now.Add(24 * time.Hour)
		s, d := c.next(Restarts{}, incident{what: wanted}, now, 0.5)
		for now.Before(end) {
			if d == launchNow {
				starts++
				now = now.Add(load)
				if life > 0 {
					s, _ = c.next(s, incident{what: becameReady}, now, 0.5)
					now = now.Add(life)
					served += life
				}
				s, _ = c.next(s, incident{what: ended}, now, 0.5)
			}
			now = s.RetryAt
			s, d = c.next(s, incident{what: due}, now, 0.5)
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
