package provisioner

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
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
			cfg.Ready.Answer, cfg.Stop.Grace = "off", Duration(200*time.Millisecond)
			cfg.Drain.Timeout = new(Duration(2 * time.Second))
			rig := rigFor(t, cfg)
			s, j := supervised(t, []ProvisionConfig{cfg})
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
			eventually(t, "the supervisor takes it for stopped", func() bool { return s.Status()[0].Restarts.Phase == PhaseStopped })
			wantNote(t, j, finished)
			if _, err := os.Lstat(rig.files.Handoff()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the handoff is there (%v)", err)
			}
			nothingLeft(t, p)
		})
	}
}

// The end of a stop can be seen in the record before the engine's end is seen. Its program has not died.
func TestAStopThatIsOverIsNotFinished(t *testing.T) {
	t.Parallel()
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}))
	p.keeping.Lock() // by this test alone
	defer p.keeping.Unlock()
	for state, want := range map[State]bool{StateStopping: true, StateStopped: false} {
		rec := p.run.rec
		rec.Desired, rec.State = desiredStopped, state
		if err := writeRecord(p.run.files, rec); err != nil {
			t.Fatal(err)
		}
		p.looked = nil
		if got := p.halfStopped(); got != want {
			t.Errorf("%s: is there a stop to be finished: %v", state, got)
		}
	}
	rec := p.run.rec
	rec.Desired, rec.State = desiredStopped, StateStopping
	if err := writeRecord(p.run.files, rec); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(p.run.files.StopLock()), os.Mkdir(p.run.files.StopLock(), 0o700)); err != nil {
		t.Fatal(err)
	}
	if p.looked = nil; p.halfStopped() {
		t.Error("a stop of which nobody can tell is finished")
	}
}

// A stop that goes on is left alone, however long its drain takes; and who else stops the engine waits for it.
func TestStopsOfOtherProgramsTakeTurns(t *testing.T) {
	t.Parallel()
	cfg := briskly(busyConfig(t, 8*requestPeriod))
	s, j := supervised(t, []ProvisionConfig{cfg})
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
	attach := func() (*EngineProvisioner, *journal) {
		told := &journal{}
		p, err := Attach(cfg.StateDir, "pool", "r0", WithEventFunc(told.add))
		if err != nil {
			t.Fatal(err)
		}
		return p, told
	}
	first, _ := attach()
	stopped := stopping(bounded(t), first)
	awaitDraining(t, first)
	eventually(t, "it is written down", func() bool { all, _ := Statuses(cfg.StateDir); return all[0].State == StateDraining })
	second, told := attach()
	if now := second.Status().State; now != StateDraining {
		t.Errorf("the second finds it %s", now)
	}
	again := stopping(bounded(t), second)
	if r := <-results; r.err != nil || r.status != 200 {
		t.Errorf("the client got %+v", r)
	}
	for _, done := range []<-chan error{stopped, again} {
		if err := <-done; err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
	eventually(t, "the supervisor takes it for stopped", func() bool { return s.Status()[0].Restarts.Phase == PhaseStopped })
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
	_, found, err := Recover(bounded(t), cfg.StateDir)
	if err != nil || len(found) != 1 || found[0].Result != RecoveredStopped || found[0].Reason != "its stop was interrupted" {
		t.Errorf("%+v (%v)", found, err)
	}
	if r := <-results; r.err != nil || r.status != 200 {
		t.Errorf("the client got %+v", r)
	}
	_, _ = p.run.host().Leader.Child().Wait()
	nothingLeft(t, p)
}
