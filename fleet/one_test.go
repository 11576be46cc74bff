package fleet

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// A fleet is empty to begin with; replicas come and go, one by one.
func TestReplicasComeAndGo(t *testing.T) {
	t.Parallel()
	cfgs := fakeConfigs(t, 2, enginetest.Behavior{})
	for i := range cfgs {
		cfgs[i] = briskly(cfgs[i])
	}
	s, _ := supervisedWith(t, nil, Options{StateDir: cfgs[0].StateDir})
	if len(s.Status()) != 0 || s.WaitReady(bounded(t)) != nil || s.Wait(bounded(t)) != nil {
		t.Errorf("an empty fleet: %+v", s.Status())
	}
	if err := s.Add(bounded(t), cfgs[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(bounded(t)); err != nil {
		t.Errorf("nothing is added: %v", err)
	}
	anywhere := cfgs[1]
	anywhere.StateDir = "" // the fleet's
	if err := s.Add(bounded(t), anywhere); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	var config *provisioner.ConfigError
	if err := s.Add(bounded(t), cfgs[1]); !errors.As(err, &config) {
		t.Errorf("one that is there: %v", err)
	}
	if cfg, err := s.Config(poolR1); err != nil || cfg.Port != cfgs[1].Port || cfg.StateDir != s.StateDir() {
		t.Errorf("%+v (%v)", cfg, err)
	}
	if _, err := os.Stat(s.HandoffDir() + "/pool-r1.json"); err != nil {
		t.Error(err)
	}
	gone := s.all()[0].launch
	if err := s.Remove(bounded(t), poolR0, provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, gone)
	for what, err := range map[string]error{
		"Remove": s.Remove(bounded(t), poolR0, provisioner.StopOptions{}), "Start": s.Start(bounded(t), poolR0), "Reset": s.Reset(bounded(t), poolR0),
		"Stop": s.Stop(bounded(t), poolR0, provisioner.StopOptions{}), "Kill": s.Kill(bounded(t), poolR0), "Drain": s.Drain(bounded(t), poolR0),
		"Resume": s.Resume(poolR0), "Restart": s.Restart(bounded(t), poolR0, provisioner.StopOptions{}),
	} {
		if !errors.Is(err, provisioner.ErrNotFound) {
			t.Errorf("%s of one that was removed: %v", what, err)
		}
	}
	// One that was left running, by a command say, is adopted.
	was := abandoned(t, cfgs[0])
	if err := s.Add(bounded(t), cfgs[0]); err != nil {
		t.Fatal(err)
	}
	if now := s.Status(); len(now) != 2 || now[1].PID != was.Status().PID || now[1].ID() != poolR0 {
		t.Errorf("%+v", now)
	}
	go reaped(was.Status().PID)
	if err := s.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(bounded(t), cfgs[0]); err == nil {
		t.Error("a fleet that has ended takes on more")
	}
}

// Another engine with the same settings, also in the place of none.
func TestRestart(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	first := s.Status()[0]
	if err := s.Restart(bounded(t), poolR0, provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	second := s.Status()[0]
	if second.State != provisioner.StateReady || second.LaunchID == first.LaunchID || second.Restarts.Total != 0 {
		t.Errorf("%+v", second)
	}
	if err := s.Stop(bounded(t), poolR0, provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Reset(bounded(t), poolR0); err != nil || s.Status()[0].Restarts.Phase != report.PhaseStopped {
		t.Errorf("Reset starts one that was stopped: %+v (%v)", s.Status()[0], err)
	}
	if err := s.Restart(bounded(t), poolR0, provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if third := s.Status()[0]; third.State != provisioner.StateReady || third.LaunchID == second.LaunchID {
		t.Errorf("%+v", third)
	}
	if err := s.Restart(bounded(t), poolR0, provisioner.StopOptions{Grace: new(-time.Second)}); err == nil {
		t.Error("a negative time is taken")
	}
}

// A replica that is taken out of service has no handoff, and the engine that it had; so it stays under new settings, over
// records that are removed and over managers, until it is put into service again.
func TestDrainAndResume(t *testing.T) {
	t.Parallel()
	cfg := briskly(busyConfig(t, 300*time.Millisecond))
	s, j := superviseReady(t, cfg)
	was, files := s.Status()[0], filesAt(cfg)
	results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
	if err := s.Drain(bounded(t), poolR0); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-results:
		if r.Err != nil || r.Status != 200 {
			t.Errorf("the client got %+v", r)
		}
	default:
		t.Error("it did not wait for the request in flight")
	}
	out := func(when string, s *Fleet) {
		t.Helper()
		all, err := Statuses(cfg.StateDir)
		for _, now := range append(all, s.Status()...) {
			if err != nil || len(all) != 1 || now.State != provisioner.StateReady || !now.Drained || now.PID != was.PID {
				t.Errorf("%s: %+v (%v)", when, now, err)
			}
		}
		if access.Exists(files.Handoff()) {
			t.Errorf("%s: its handoff is there", when)
		}
	}
	out("drained", s)
	if err := s.Drain(bounded(t), poolR0); err != nil {
		t.Errorf("once more: %v", err)
	}
	cfg.Drain.Timeout = new(settings.Duration(7 * time.Second))
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 updated")
	out("under new settings", s)
	if err := os.Remove(files.Record()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the record is there again", func() bool { return access.Exists(files.Record()) })
	out("with another record", s)
	handOver(t, s)
	next, told := superviseReady(t, cfg)
	out("under the next manager", next)
	if slices.ContainsFunc(told.recoveries(), func(e provisioner.Event) bool { return e.Handoff != nil }) {
		t.Error("its adoption tells a handoff")
	}
	if err := next.Resume(poolR0); err != nil {
		t.Fatal(err)
	}
	h, err := provisioner.ReadHandoff(files.Handoff())
	if err != nil || h.Process.PID != was.PID {
		t.Errorf("%+v (%v)", h, err)
	}
	if now := next.Status()[0]; now.Drained || now.State != provisioner.StateReady {
		t.Errorf("%+v", now)
	}
	if err := next.Resume(poolR0); err != nil {
		t.Errorf("once more: %v", err)
	}
	// The next launch is in service.
	if err := errors.Join(next.Drain(bounded(t), poolR0), next.Restart(bounded(t), poolR0, provisioner.StopOptions{})); err != nil {
		t.Fatal(err)
	}
	if now := next.Status()[0]; now.Drained || !access.Exists(files.Handoff()) {
		t.Errorf("%+v", now)
	}
	if err := next.Stop(bounded(t), poolR0, provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(next.Drain(bounded(t), poolR0), next.Resume(poolR0)); !errors.Is(err, provisioner.ErrNotReady) {
		t.Errorf("of one that is stopped: %v", err)
	}
	if notes := j.notes(); !strings.Contains(notes, "it is taken out of service") {
		t.Errorf("notes %q", notes)
	}
}

// Who gives up waiting for a drain leaves the replica out of service.
func TestDrainThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	cfg := briskly(busyConfig(t, time.Hour))
	cfg.Drain.Timeout = new(settings.Duration(time.Second))
	s, _ := superviseReady(t, cfg)
	inFlight(t, cfg, 1, `{"prompt":"x"}`)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if err := s.Drain(ctx, poolR0); !errors.Is(err, context.Canceled) {
		t.Errorf("Drain: %v", err)
	}
	if now := s.Status()[0]; !now.Drained || access.Exists(filesAt(cfg).Handoff()) {
		t.Errorf("%+v", now)
	}
}
