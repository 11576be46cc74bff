package fleet

import (
	"errors"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/caller"
	"github.com/llama-orch/engine-provisioner/internal/restart"
	"github.com/llama-orch/engine-provisioner/report"
)

func newHold(t *testing.T, last time.Duration) hold.Hold {
	t.Helper()
	h, err := hold.New("new driver", last)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// wantHeld makes sure that a replica is held and runs nothing.
func wantHeld(t *testing.T, now provisioner.Status, when string) {
	t.Helper()
	if now.Hold == nil || now.Hold.Reason != "new driver" || now.Hold.User != caller.This().User || now.PID != 0 || now.State != provisioner.StateStopped {
		t.Errorf("%s: %+v, held %+v", when, now, now.Hold)
	}
}

// Nothing starts what is held, and all say who holds it.
func TestNothingStartsWhatIsHeld(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, j := superviseReady(t, cfg)
	if err := s.Hold(bounded(t), poolR0, newHold(t, 0), provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, s.Status()[0], "held")
	wantNote(t, j, "held by "+caller.This().User+": new driver")
	other := changed(cfg)
	for name, do := range map[string]func() error{
		"Start":   func() error { return s.Start(bounded(t), poolR0) },
		"Restart": func() error { return s.Restart(bounded(t), poolR0, provisioner.StopOptions{}) },
		"Reload":  func() error { return s.Reload(bounded(t), other) },
		"a lone Start": func() error {
			p, err := provisioner.New(cfg)
			if err != nil {
				return err
			}
			return p.Start(bounded(t))
		},
		"RequestReset": func() error {
			all, err := RequestReset(bounded(t), cfg.StateDir, poolR0)
			if err == nil && all[0].Error != "" {
				return errors.Join(hold.ErrHeld, errors.New(all[0].Error))
			}
			return err
		},
	} {
		err := do()
		if !errors.Is(err, hold.ErrHeld) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantText(t, err, "pool/r0 is held by ", "new driver", "engine-provisioner unhold pool/r0")
		wantHeld(t, s.Status()[0], name)
	}
	wantApplied(t, s, []provisioner.ProvisionConfig{other}, "r0 held")
	if err := s.Reset(bounded(t), poolR0); err != nil {
		t.Error(err)
	}
	wantHeld(t, s.Status()[0], "applied and reset")
	if all, err := provisioner.Statuses(cfg.StateDir); err != nil || len(all) != 1 || all[0].Hold == nil {
		t.Errorf("Statuses: %+v (%v)", all, err)
	}
	for end, over := range map[string]func() error{"Shutdown": func() error { return s.Shutdown(bounded(t)) }, "Release": func() error { return s.Release() }} {
		if err := over(); err != nil {
			t.Fatal(end, err)
		}
		s, j = supervised(t, []provisioner.ProvisionConfig{other})
		if err := s.WaitReady(bounded(t)); err != nil {
			t.Errorf("WaitReady waits for it: %v", err)
		}
		wantHeld(t, s.Status()[0], "after "+end)
		wantNote(t, j, "pool/r0 is held by ")
	}
	if err := s.Unhold(bounded(t), poolR0); err != nil {
		t.Fatal(err)
	}
	if now := untilReady(t, s, ""); now.Hold != nil {
		t.Errorf("%+v", now.Hold)
	}
	wantNote(t, j, "not held any more")
	if err := s.Unhold(bounded(t), poolR0); err != nil { // which it is not
		t.Error(err)
	}
}

// A hold with a time ends by itself, also under the manager that comes after; and what was stopped beside it stays so.
func TestHoldEndsByItself(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, j := superviseReady(t, cfg)
	if err := s.Hold(bounded(t), poolR0, newHold(t, 500*time.Millisecond), provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	s, _ = supervised(t, []provisioner.ProvisionConfig{cfg})
	untilReady(t, s, "")
	if err := s.Hold(bounded(t), poolR0, newHold(t, time.Hour), provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(bounded(t), poolR0, provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Unhold(bounded(t), poolR0); err != nil {
		t.Fatal(err)
	}
	if now := s.Status()[0]; now.Hold != nil || now.State != provisioner.StateStopped || now.Restarts.Phase != report.PhaseStopped {
		t.Errorf("%+v", now)
	}
	if len(j.notes()) == 0 {
		t.Error("nothing was told")
	}
}

// A hold of all is also one of those that come later. It leaves the holds of single replicas alone.
func TestHoldAll(t *testing.T) {
	t.Parallel()
	first := briskly(fakeConfig(t, enginetest.Behavior{}))
	second := first
	second.ReplicaID, second.Port = "r1", enginetest.FreePort(t, 1)
	s, _ := superviseReady(t, first)
	if err := s.Hold(bounded(t), first.ID(), newHold(t, 0), provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	all := newHold(t, 0)
	all.Reason = "all of them"
	if err := s.HoldAll(bounded(t), all, provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	wantApplied(t, s, []provisioner.ProvisionConfig{first, second}, "r0 held", "r1 held")
	now := s.Status()
	wantHeld(t, now[0], "its own")
	if h := now[1].Hold; h == nil || !h.Node || h.Reason != "all of them" {
		t.Errorf("the new one: %+v", now[1])
	}
	err := s.Unhold(bounded(t), second.ID())
	if !errors.Is(err, hold.ErrHeld) {
		t.Errorf("of one: %v", err)
	}
	wantText(t, err, "held with the whole node", "engine-provisioner unhold --node")
	if err := s.UnholdAll(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "r1 is ready", func() bool { return s.Status()[1].State == provisioner.StateReady })
	wantHeld(t, s.Status()[0], "its own, after that of all")
}

// Without a manager, the command that holds also stops, and the next manager keeps it so. An engine that somebody has left
// running all the same, as a command that was killed over it, is stopped by that.
func TestHoldWithoutAManager(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	if _, err := RequestHold(bounded(t), cfg.StateDir, newHold(t, 0), []provisioner.ReplicaID{poolR0}); !errors.Is(err, provisioner.ErrNotFound) {
		t.Errorf("of a replica that is not there: %v", err)
	}
	s, _ := superviseReady(t, cfg)
	pid := s.Status()[0].PID
	handOver(t, s)
	for _, ids := range [][]provisioner.ReplicaID{{poolR0}, nil} {
		all, err := RequestHold(bounded(t), cfg.StateDir, newHold(t, 0), ids)
		if err != nil || len(ids) > 0 && (len(all) != 1 || all[0] != Answer{Pool: "pool", Replica: "r0", Result: ResultHeld}) || alive(pid) {
			t.Errorf("%+v (%v); it runs: %t", all, err, alive(pid))
		}
	}
	if _, err := RequestReset(bounded(t), cfg.StateDir, poolR0); !errors.Is(err, hold.ErrHeld) {
		t.Errorf("a reset: %v", err)
	}
	s, _ = supervised(t, []provisioner.ProvisionConfig{cfg})
	wantHeld(t, s.Status()[0], "the next manager")
	if err := s.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if all, err := RequestUnhold(bounded(t), cfg.StateDir, poolR0); err != nil || all[0].Result != ResultFailed {
		t.Errorf("the node is held: %+v (%v)", all, err)
	}
	if _, err := RequestUnhold(bounded(t), cfg.StateDir); err != nil {
		t.Error(err)
	}
	superviseReady(t, cfg)
}

// With a manager, holds come by requests, and a held replica keeps it from ending by itself.
func TestHoldByRequest(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	if all, err := RequestHold(bounded(t), cfg.StateDir, newHold(t, 0), []provisioner.ReplicaID{poolR0}); err != nil || all[0].Result != ResultHeld {
		t.Fatalf("%+v (%v)", all, err)
	}
	wantHeld(t, s.Status()[0], "by request")
	if err := s.Wait(gone()); !errors.Is(err, errCaller) {
		t.Errorf("Wait: %v", err)
	}
	if all, err := RequestUnhold(bounded(t), cfg.StateDir, poolR0); err != nil || all[0].Result != ResultUnheld {
		t.Fatalf("%+v (%v)", all, err)
	}
	untilReady(t, s, "")
}

// Whatever is judged of a replica while it is held, it is started by nobody but the end of the hold.
func TestHeldIsStoppedForThePolicy(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{}).WithDefaults()
	r := alone(cfg, t.TempDir())
	o := &order{kind: orderHold, hold: newHold(t, 0), reply: make(chan error, 1)}
	if r.obeyHold(o, nil); <-o.reply != nil || r.history().Phase != report.PhaseStopped {
		t.Fatal(r.history())
	}
	r.judge(policy.Happened(restart.Due))
	if r.history().Phase != report.PhaseStopped || !r.atRest() {
		t.Error(r.history())
	}
}
