package fleet

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

const finished = "another command was stopping it and died; its stop is finished"

// A "stop" that is killed leaves its intent, and the manager carries it out, wherever the stop was.
func TestSuperviseFinishesAStop(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		behavior enginetest.Behavior
		at       string // failpoint; "" is the middle of the drain
	}{
		"in its drain":               {},
		"before SIGTERM":             {at: "before_term"},
		"after SIGTERM":              {at: "after_term", behavior: enginetest.Behavior{IgnoreTerm: true}},
		"while it loads":             {at: "before_term", behavior: enginetest.Behavior{LoadTime: time.Hour}},
		"while it loads, to the end": {at: "after_term", behavior: enginetest.Behavior{LoadTime: time.Hour, IgnoreTerm: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.behavior.BusyRequests = time.Hour
			cfg := briskly(fakeConfig(t, test.behavior))
			cfg.Ready.Answer, cfg.Stop.Grace = "off", settings.Duration(200*time.Millisecond)
			cfg.Drain.Timeout = new(settings.Duration(2 * time.Second))
			rig := rigFor(t, cfg)
			s, j := supervised(t, []provisioner.ProvisionConfig{cfg})
			if test.behavior.LoadTime > 0 {
				eventually(t, "it loads", func() bool { return strings.Contains(s.Status()[0].Heard, "Loading model") })
			} else if err := s.WaitReady(bounded(t)); err != nil {
				t.Fatal(err)
			}
			if test.at == "" {
				inFlight(t, cfg, 1, `{"prompt":"x"}`) // else the drain is over at once
			}
			order := rig.order
			order.Stop, order.Failpoint = true, test.at
			rig.kill(t, order, "draining", 0)
			p := s.replicas[0].launch
			awaitDone(t, p)
			eventually(t, "the manager takes it for stopped", func() bool { return s.Status()[0].Restarts.Phase == report.PhaseStopped })
			wantNote(t, j, finished)
			if _, err := os.Lstat(rig.files.Handoff()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the handoff is there (%v)", err)
			}
			nothingLeft(t, p)
		})
	}
}

// A stop that goes on is left alone, however long its drain takes; and who else stops the engine waits for it.
func TestStopsOfOtherProgramsTakeTurns(t *testing.T) {
	t.Parallel()
	cfg := briskly(busyConfig(t, 8*requestPeriod))
	s, j := supervised(t, []provisioner.ProvisionConfig{cfg})
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
	attach := func() (*provisioner.EngineProvisioner, *journal) {
		told := &journal{}
		p, err := provisioner.Attach(cfg.StateDir, poolR0, provisioner.WithEventFunc(told.add))
		if err != nil {
			t.Fatal(err)
		}
		return p, told
	}
	first, _ := attach()
	stopped := stopping(bounded(t), first)
	awaitDraining(t, first)
	eventually(t, "it is written down", func() bool {
		all, _ := Statuses(cfg.StateDir)
		return all[0].State == provisioner.StateDraining
	})
	second, told := attach()
	if now := second.Status().State; now != provisioner.StateDraining {
		t.Errorf("the second finds it %s", now)
	}
	again := stopping(bounded(t), second)
	if r := <-results; r.Err != nil || r.Status != 200 {
		t.Errorf("the client got %+v", r)
	}
	for _, done := range []<-chan error{stopped, again} {
		if err := <-done; err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
	eventually(t, "the manager takes it for stopped", func() bool { return s.Status()[0].Restarts.Phase == report.PhaseStopped })
	if notes := j.notes() + told.notes(); strings.Contains(notes, finished) || strings.Contains(notes, "in flight; waiting") {
		t.Errorf("somebody else has taken part: %q", notes)
	}
	nothingLeft(t, first)
}

// The next manager goes on with a drain that was interrupted: the clients can know nothing of it.
func TestRecoverGoesOnWithADrain(t *testing.T) {
	t.Parallel()
	cfg := busyConfig(t, 6*time.Second) // still in flight when the drain is killed, and over before Recover's ten seconds
	rig := rigFor(t, cfg)
	p := abandoned(t, cfg)
	results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
	order := rig.order
	order.Stop = true
	rig.kill(t, order, "draining", 0)
	_, found, err := provisioner.Recover(bounded(t), cfg.StateDir)
	if err != nil || len(found) != 1 || found[0].Result != report.RecoveredStopped || found[0].Reason != "its stop was interrupted" {
		t.Errorf("%+v (%v)", found, err)
	}
	if r := <-results; r.Err != nil || r.Status != 200 {
		t.Errorf("the client got %+v", r)
	}
	reaped(p.Status().PID)
	nothingLeft(t, p)
}
