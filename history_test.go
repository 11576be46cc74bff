package provisioner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// ends are the events in the file that tell the end of a launch.
func ends(t *testing.T, state, launchID string) []Event {
	t.Helper()
	var all []Event
	for e, err := range ReadEvents(context.Background(), state, false) {
		if err != nil {
			t.Error(err)
		}
		if e.LaunchID == launchID && e.Kind == EventState && e.State.Final() {
			all = append(all, e)
		}
	}
	return all
}

// A stop by another program is an event, once, that tells who and how: the manager's own, or else that program's.
func TestAStopIsHistory(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		behavior enginetest.Behavior
		grace    Duration
		want     string
	}{
		"at once": {want: ""},
		"killed": {
			behavior: enginetest.Behavior{IgnoreTerm: true}, grace: Duration(1), want: "killed after the grace period of 1ns",
		},
	} {
		for _, managed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, managed %t", name, managed), func(t *testing.T) {
				t.Parallel()
				cfg := fakeConfig(t, c.behavior)
				cfg.Stop.Grace = c.grace
				var id string
				if managed {
					s, _ := superviseReady(t, cfg)
					id = s.Status()[0].LaunchID
				} else {
					p, _ := ready(t, cfg)
					id = p.Status().LaunchID
				}
				other, err := Attach(cfg.StateDir, "pool", "r0")
				if err != nil {
					t.Fatal(err)
				}
				if err := other.Stop(bounded(t)); err != nil && !errors.Is(err, ErrKilled) {
					t.Fatal(err)
				}
				var told []Event
				eventually(t, "the end is told", func() bool {
					told = ends(t, cfg.StateDir, id)
					return len(told) > 0
				})
				e := told[0]
				if len(told) != 1 || e.State != StateStopped || e.Message != c.want || e.StoppedBy == nil || *e.StoppedBy != thisProgram() {
					t.Errorf("%+v", told)
				}
			})
		}
	}
}

// A stop of a replica that has no engine is one, too.
func TestAStopOfAWaitIsHistory(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{DieLoading: &enginetest.Death{Code: 3}}))
	cfg.Restart.InitialDelay, cfg.Restart.MaxDelay = Duration(patience), Duration(patience)
	s, j := supervised(t, []ProvisionConfig{cfg})
	eventually(t, "a wait", func() bool { return s.Status()[0].Restarts.waits() })
	if _, err := RequestStop(bounded(t), cfg.StateDir, "pool/r0"); err != nil {
		t.Fatal(err)
	}
	if notes := j.notes(); !strings.Contains(notes, "stopped by another command: "+thisProgram().String()) {
		t.Errorf("notes: %s", notes)
	}
	err := s.WaitReady(bounded(t))
	wantText(t, err, "exited with code 3") // that came first
}

// A start that another program calls off says so.
func TestAStartThatIsCalledOff(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{LoadTime: patience})
	s, _ := supervised(t, []ProvisionConfig{cfg})
	eventually(t, "a load", func() bool { return s.Status()[0].State == StateStarting })
	waited := make(chan error, 1)
	go func() { waited <- s.WaitReady(bounded(t)) }()
	other, err := Attach(cfg.StateDir, "pool", "r0")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	err = <-waited
	if !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
	wantText(t, err, "pool/r0: stopped before it was ready, by another command: "+thisProgram().String())
}

// Several programs write events at once, through many changes of the file, and none is lost or torn.
func TestEventsOfSeveralWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const writers, each = 4, 6
	long := strings.Repeat("x", state.MaxEvents/(writers*each)+1) // more than one file holds, less than two
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			file := eventFile{dir: dir}
			for i := range each {
				e := Event{Pool: "p", Replica: "r", Kind: EventState, State: StateStopped, LaunchID: fmt.Sprintf("%d-%d", w, i), Message: long}
				if err := file.addEnd(e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	seen := map[string]int{}
	for e, err := range ReadEvents(context.Background(), dir, false) {
		if err != nil {
			t.Fatal(err)
		}
		seen[e.LaunchID]++
	}
	if len(seen) != writers*each {
		t.Errorf("%d of %d events", len(seen), writers*each)
	}
	if _, err := os.Stat(filepath.Join(dir, state.OldEventsName)); err != nil {
		t.Error(err)
	}
	again := eventFile{dir: dir}
	if err := again.addEnd(Event{LaunchID: "0-1", Kind: EventState, State: StateStopped}); err != nil || seen["0-1"] != 1 {
		t.Errorf("told %d times (%v)", seen["0-1"], err)
	}
}
