package fleet

import (
	"context"
	"slices"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet/internal/feed"
)

func TestSupervisorEvents(t *testing.T) {
	t.Parallel()
	s, j := supervised(t, []provisioner.ProvisionConfig{briskly(fakeConfig(t, enginetest.Behavior{LoadTime: 200 * time.Millisecond}))})
	absent, events := s.Events(t.Context()), s.Events(t.Context()) // in this order: absent misses nothing that events gets
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	first := s.Status()[0]
	enginetest.Kill(t, first.URL, enginetest.Death{Code: 7})
	second := untilReady(t, s, first.LaunchID) // the absent reader does not keep it from that
	if err := s.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	var got []provisioner.Event
	for e := range events {
		got = append(got, e)
	}
	type step struct {
		kind     provisioner.EventKind
		from, to provisioner.State
		launch   string
		attempt  int
		cause    engine.Cause
		exit     int
		loaded   bool
		retries  bool
	}
	var steps []step
	for _, e := range got {
		if e.Kind == provisioner.EventNote {
			continue
		}
		st := step{kind: e.Kind, from: e.From, to: e.State, launch: e.LaunchID, attempt: e.Attempt, cause: e.Cause, exit: -9}
		if e.ExitCode != nil {
			st.exit = *e.ExitCode
		}
		st.loaded = e.State == provisioner.StateReady && e.Took >= 0.1 // it begins to load a little before it is told as starting
		st.retries = e.Kind == provisioner.EventRestart && !e.Restarts.RetryAt.IsZero()
		steps = append(steps, st)
	}
	life := func(launch string, attempt int) []step {
		return []step{
			{kind: provisioner.EventState, from: provisioner.StateNew, to: provisioner.StatePreparing, attempt: attempt, exit: -9},
			{kind: provisioner.EventState, from: provisioner.StatePreparing, to: provisioner.StateStarting, launch: launch, attempt: attempt, exit: -9},
			{kind: provisioner.EventState, from: provisioner.StateStarting, to: provisioner.StateReady, launch: launch, attempt: attempt, exit: -9, loaded: true},
		}
	}
	want := append(life(first.LaunchID, 1),
		step{kind: provisioner.EventState, from: provisioner.StateReady, to: provisioner.StateFailed, launch: first.LaunchID, attempt: 1, cause: engine.CauseUnknown, exit: 7},
		step{kind: provisioner.EventRestart, to: provisioner.StateFailed, launch: first.LaunchID, attempt: 1, cause: engine.CauseUnknown, exit: -9, retries: true})
	want = append(want, life(second.LaunchID, 2)...)
	want = append(want,
		step{kind: provisioner.EventState, from: provisioner.StateReady, to: provisioner.StateDraining, launch: second.LaunchID, attempt: 2, exit: -9},
		step{kind: provisioner.EventState, from: provisioner.StateDraining, to: provisioner.StateStopping, launch: second.LaunchID, attempt: 2, exit: -9},
		step{kind: provisioner.EventState, from: provisioner.StateStopping, to: provisioner.StateStopped, launch: second.LaunchID, attempt: 2, exit: 0})
	// The first launch may have begun before the subscription.
	if len(steps) < len(want)-3 || !slices.Equal(steps, want[len(want)-len(steps):]) {
		t.Errorf("events:\n%+v\nwant the end of:\n%+v", steps, want)
	}
	if n := len(j.states()); n != 10 {
		t.Errorf("the event function got %d states: %v", n, j.states())
	}
	account := 0
	for e := range absent {
		account += 1 + e.Missed
	}
	if account < len(got) {
		t.Errorf("the absent reader comes back to %d events, want %d", account, len(got))
	}
	for range s.Events(t.Context()) {
		t.Error("an event after the end")
	}
}

// A reader that was away, also while one manager died and another took over, goes on without gap or double.
func TestEventsResume(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	var seen []provisioner.Event
	events, leave := context.WithCancel(t.Context())
	for e := range s.EventsAfter(events, 0) {
		if e.Kind == provisioner.EventProgress {
			continue
		}
		if seen = append(seen, e); e.State == provisioner.StateReady {
			leave() // in the middle of its life
		}
	}
	leave()
	ready := seen[len(seen)-1].Seq
	enginetest.Kill(t, s.Status()[0].URL, enginetest.Death{Code: 7})
	untilReady(t, s, seen[len(seen)-1].LaunchID)
	standing, number := s.Snapshot()
	if standing[0].State != provisioner.StateReady || number <= ready {
		t.Errorf("snapshot %d: %+v", number, standing[0])
	}
	wantNumbers(t, append(seen, numbersAfter(t, s, ready, number)...))
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}

	next, _ := superviseReady(t, cfg)
	_, now := next.Snapshot()
	all := numbersAfter(t, next, 0, now)
	wantNumbers(t, all)
	if again := numbersAfter(t, next, number, now); again[0].Seq <= number || !slices.ContainsFunc(again, func(e provisioner.Event) bool { return e.Kind == provisioner.EventRecovery }) {
		t.Errorf("after %d: %+v", number, again[0])
	}
	if first := all[0].Seq; first != 1 {
		t.Errorf("the first event has number %d", first)
	}
}

// numbersAfter reads the events behind a number up to another.
func numbersAfter(t *testing.T, s *Fleet, after, last uint64) (events []provisioner.Event) {
	t.Helper()
	ctx, leave := context.WithCancel(bounded(t))
	defer leave()
	for e := range s.EventsAfter(ctx, after) {
		if e.Seq != 0 {
			events = append(events, e)
		}
		if e.Seq >= last {
			return events
		}
	}
	t.Fatalf("the events end after %d of them, before number %d", len(events), last)
	return nil
}

// wantNumbers fails the test unless numbers follow each other, but for the gap between managers.
func wantNumbers(t *testing.T, events []provisioner.Event) {
	t.Helper()
	for i, e := range events[1:] {
		if before := events[i].Seq; e.Seq != before+1 && (e.Seq%feed.SeqStep != 1 || e.Seq < before) || e.Missed > 0 {
			t.Errorf("number %d follows %d (%d missed)", e.Seq, before, e.Missed)
		}
	}
}
