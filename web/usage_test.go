package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/test/client"
	"github.com/llama-orch/engine-provisioner/internal/test/wait"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/usage"
)

// It is measured while somebody looks, and for as long as what was measured is kept, and not before or after.
func TestRecorder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var taken atomic.Int64
		ended := make(chan struct{})
		r := &recorder{
			status: func() []provisioner.Status {
				return []provisioner.Status{
					{Pool: "pool", Replica: "r0", LaunchID: "a", State: provisioner.StateStarting}, {Pool: "pool", Replica: "r1", State: provisioner.StateFailed},
				}
			},
			measure: func(_ context.Context, all []provisioner.Status) error {
				n := taken.Add(1)
				all[0].Usage = &usage.Usage{Processes: int(n)}
				all[0].Progress = &report.Progress{Done: n}
				return errors.New("of the other one nothing is known")
			},
			ended: ended, every: measureEvery, keep: measuredFor,
		}
		running := func() bool {
			synctest.Wait()
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.running
		}
		time.Sleep(time.Hour)
		if n := taken.Load(); n != 0 {
			t.Errorf("%d measurements, and nobody looks", n)
		}
		all := r.status()
		if r.add(t.Context(), all); taken.Load() != 1 || all[0].Usage.Processes != 1 {
			t.Errorf("a status alone: %d measurements, %+v", taken.Load(), all[0].Usage)
		}
		if first := r.after(time.Time{}); len(first) != 0 {
			t.Errorf("the first look finds %d", len(first))
		}
		time.Sleep(12 * time.Second)
		seen := r.after(time.Time{})
		if len(seen) != 3 || len(seen[0].Replicas) != 1 || seen[0].Replicas[0].Replica != "r0" {
			t.Fatalf("after 12 s: %+v", seen)
		}
		if more := r.after(seen[1].Time); len(more) != 1 || !more[0].Time.Equal(seen[2].Time) {
			t.Errorf("after the second: %+v", more)
		}
		// Statuses share it, but for those of another launch, and what has ended.
		all = r.status()
		r.add(t.Context(), all)
		if taken.Load() != 4 || all[0].Usage.Processes != 4 || all[0].Progress.Done != 4 || all[1].Usage != nil {
			t.Errorf("%d measurements, %+v", taken.Load(), all)
		}
		all = r.status()
		all[0].LaunchID = "b"
		if r.add(t.Context(), all); all[0].Usage != nil {
			t.Error("a launch has the usage of another")
		}
		for range 20 { // looks keep it going, and what is old goes
			time.Sleep(time.Minute)
			seen = r.after(time.Time{})
		}
		if n := len(seen); n < 180 || n > 181 {
			t.Errorf("%d measurements of 15 minutes", n)
		}
		time.Sleep(time.Hour)
		if before := taken.Load(); running() {
			t.Error("it goes on, and nobody looks")
		} else if time.Sleep(time.Hour); taken.Load() != before {
			t.Error("it was measured, and nobody looks")
		}
		if again := r.after(time.Time{}); len(again) != 0 {
			t.Errorf("what was forgotten is told: %d", len(again))
		}
		close(ended)
		if r.after(time.Time{}); running() {
			t.Error("it goes on after the end of the fleet")
		}
	})
}

// What a real tree of processes takes is told.
func TestUsage(t *testing.T) {
	t.Parallel()
	f := open(t, config(t, enginetest.Behavior{}))
	url, caller := serve(t, f, Options{})
	if err := f.WaitReady(wait.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	// A measurement may come before the list of processes that it shares with others has the engine's.
	wait.Until(t, "it is measured", func() bool {
		code, text := client.Get(t, caller, url+"/usage")
		var m Measured
		if err := json.Unmarshal([]byte(text), &m); err != nil || code != http.StatusOK {
			t.Fatalf("%d %s: %v", code, text, err)
		}
		return slices.ContainsFunc(m.Samples, func(s Sample) bool {
			return len(s.Replicas) == 1 && s.Replicas[0].ReplicaID == r0 && s.Replicas[0].Usage.Memory > 1<<20
		})
	})
	wait.Until(t, "a status tells it", func() bool {
		var s Snapshot
		_, text := client.Get(t, caller, url+"/status")
		return json.Unmarshal([]byte(text), &s) == nil && s.Replicas[0].Usage != nil && s.Replicas[0].Usage.Processes > 0
	})
	if code, text := client.Get(t, caller, url+"/usage?after=yesterday"); code != http.StatusBadRequest {
		t.Errorf("%d %s", code, text)
	}
}
