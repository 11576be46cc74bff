package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/internal/caller"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// ends are the events in the file that tell the end of a launch.
func ends(t *testing.T, state, launchID string) []provisioner.Event {
	t.Helper()
	var all []provisioner.Event
	for e, err := range ReadEvents(context.Background(), state, false) {
		if err != nil {
			t.Error(err)
		}
		if e.LaunchID == launchID && e.Kind == provisioner.EventState && e.State.Final() {
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
		grace    settings.Duration
		want     string
	}{
		"at once": {want: ""},
		"killed": {
			behavior: enginetest.Behavior{IgnoreTerm: true}, grace: settings.Duration(1), want: "killed after the grace period of 1ns",
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
				other, err := provisioner.Attach(cfg.StateDir, poolR0)
				if err != nil {
					t.Fatal(err)
				}
				if err := other.Stop(bounded(t)); err != nil && !errors.Is(err, provisioner.ErrKilled) {
					t.Fatal(err)
				}
				var told []provisioner.Event
				eventually(t, "the end is told", func() bool {
					told = ends(t, cfg.StateDir, id)
					return len(told) > 0
				})
				e := told[0]
				if len(told) != 1 || e.State != provisioner.StateStopped || e.Message != c.want || e.StoppedBy == nil || *e.StoppedBy != report.Stopper(caller.This()) {
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
	cfg.Restart.InitialDelay, cfg.Restart.MaxDelay = settings.Duration(patience), settings.Duration(patience)
	s, j := supervised(t, []provisioner.ProvisionConfig{cfg})
	eventually(t, "a wait", func() bool { return policy.Waits(*s.Status()[0].Restarts) })
	if _, err := RequestStop(bounded(t), cfg.StateDir, poolR0); err != nil {
		t.Fatal(err)
	}
	if notes := j.notes(); !strings.Contains(notes, "stopped by another command: "+report.Stopper(caller.This()).String()) {
		t.Errorf("notes: %s", notes)
	}
	err := s.WaitReady(bounded(t))
	wantText(t, err, "exited with code 3") // that came first
}

// A start that another program calls off says so.
func TestAStartThatIsCalledOff(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{LoadTime: patience})
	s, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	eventually(t, "a load", func() bool { return s.Status()[0].State == provisioner.StateStarting })
	waited := make(chan error, 1)
	go func() { waited <- s.WaitReady(bounded(t)) }()
	other, err := provisioner.Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	err = <-waited
	if !errors.Is(err, provisioner.ErrStopped) {
		t.Error(err)
	}
	wantText(t, err, "pool/r0: stopped before it was ready, by another command: "+report.Stopper(caller.This()).String())
}
