package feed

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"go.uber.org/goleak"
)

// numbered is an event that is told apart by its PID.
func numbered(n int) provisioner.Event { return provisioner.Event{PID: n, Kind: provisioner.EventNote} }

// wantComplete fails the test unless events are 1 to n in order, those apart that Missed counts.
func wantComplete(t *testing.T, events []provisioner.Event, n int) {
	t.Helper()
	last := 0
	for _, e := range events {
		if e.PID != last+1+e.Missed {
			t.Fatalf("event %d follows %d and says that %d were missed", e.PID, last, e.Missed)
		}
		last = e.PID
	}
	if last != n {
		t.Errorf("the last event is %d, want %d", last, n)
	}
}

func TestFeedReaders(t *testing.T) {
	t.Parallel()
	const total = 5 * Buffer
	var f Feed
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fast, slow, absent := f.Subscribe(ctx), f.Subscribe(ctx), f.Subscribe(ctx)
	left, leave := context.WithCancel(ctx)
	defer leave()
	gone := f.Subscribe(left)

	var got []provisioner.Event
	for n := 1; n <= total; n++ {
		f.Publish(numbered(n))
		got = append(got, <-fast)
		if n == Buffer {
			leave()
		}
	}
	f.Close()
	for e := range fast {
		t.Errorf("an event more: %+v", e)
	}
	wantComplete(t, got, total)
	if i := slices.IndexFunc(got, func(e provisioner.Event) bool { return e.Missed > 0 }); i >= 0 {
		t.Errorf("the fast reader missed some: %+v", got[i])
	}
	for range gone { // closed, whatever it has had
	}

	got = nil
	missed := 0
	for e := range slow {
		got = append(got, e)
		missed += e.Missed
	}
	wantComplete(t, got, total)
	if missed != total-len(got) || len(got) > Buffer+1 {
		t.Errorf("%d events read, %d missed of %d", len(got), missed, total)
	}

	for range f.Subscribe(ctx) {
		t.Error("an event after the end")
	}
	cancel()
	for range absent { // closed although it has not read all
	}
}

// Readers at all speeds, and publishers at once: each reader's account is complete.
func TestFeedAccountsAreComplete(t *testing.T) {
	t.Parallel()
	const publishers, each = 4, 1000
	var f Feed
	var publishing, reading sync.WaitGroup
	for _, pause := range []time.Duration{0, time.Microsecond, 100 * time.Microsecond} {
		events := f.Subscribe(t.Context())
		reading.Go(func() {
			account := 0
			for e := range events {
				account += 1 + e.Missed
				time.Sleep(pause)
			}
			if account != publishers*each {
				t.Errorf("pause %s: %d events accounted for, want %d", pause, account, publishers*each)
			}
		})
	}
	for range publishers {
		publishing.Go(func() {
			for n := range each {
				f.Publish(numbered(n))
			}
		})
	}
	publishing.Wait()
	f.Close()
	reading.Wait()
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
