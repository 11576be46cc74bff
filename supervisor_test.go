package provisioner

import (
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// briskly makes restarts and health checks quick enough to be waited for.
func briskly(cfg ProvisionConfig) ProvisionConfig {
	cfg.Restart = settings.Restart{
		InitialDelay: settings.Duration(10 * time.Millisecond), MaxDelay: settings.Duration(50 * time.Millisecond), StartBurst: 3,
		Cooldown: settings.Duration(time.Hour), CooldownMax: settings.Duration(time.Hour),
	}
	cfg.Liveness.Period = settings.Duration(time.Second)
	cfg.Stop.Grace = settings.Duration(10 * time.Second)
	return cfg
}

// Recover without a Supervisor: what pool-managerd does when it watches its engines itself.
func TestRecover(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	replica := func(id string, b enginetest.Behavior) ProvisionConfig {
		cfg := briskly(fakeConfig(t, b))
		cfg.StateDir, cfg.ReplicaID = dir, id
		return cfg
	}
	healthy := abandoned(t, replica("healthy", enginetest.Behavior{}))
	hanging := abandoned(t, replica("hanging", enginetest.Behavior{}))
	enginetest.Hang(t, hanging.handoff.URL)
	interrupted := abandoned(t, replica("interrupted", enginetest.Behavior{}))
	rec := interrupted.run.rec
	rec.Desired = desiredStopped
	if err := writeRecord(interrupted.run.files, rec); err != nil {
		t.Fatal(err)
	}
	dead := abandoned(t, replica("dead", enginetest.Behavior{}))
	enginetest.Kill(t, dead.handoff.URL, enginetest.Death{Code: 1})
	if _, err := dead.run.host().Leader.Child().Wait(); err != nil {
		t.Fatal(err)
	}
	loading, _ := started(t, replica("loading", enginetest.Behavior{LoadTime: 500 * time.Millisecond}))
	loading.Release()

	adopted, found, err := Recover(bounded(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]report.Recovery{}
	for _, f := range found {
		results[f.Replica] = f.Result
		if f.Err != nil {
			t.Errorf("%s: %v", f.Replica, f.Err)
		}
	}
	for name, want := range map[string]report.Recovery{
		"healthy": report.RecoveredAdopted, "loading": report.RecoveredAdopted, "hanging": report.RecoveredAdopted, "interrupted": report.RecoveredStopped, "dead": report.RecoveredGone,
	} {
		if results[name] != want {
			t.Errorf("%s: %q, want %q", name, results[name], want)
		}
	}
	for _, p := range adopted {
		if _, err := p.WaitReady(bounded(t)); err != nil {
			t.Errorf("%s: %v", p.cfg.Name(), err)
		}
		if err := p.Stop(bounded(t)); err != nil {
			t.Errorf("%s: %v", p.cfg.Name(), err)
		}
	}
	for _, p := range []*EngineProvisioner{healthy, hanging, interrupted, dead, loading} {
		_, _ = p.run.host().Leader.Child().Wait()
		nothingLeft(t, p)
	}
	if adopted, found, err := Recover(bounded(t), dir); err != nil || len(adopted)+len(found) > 0 {
		t.Errorf("again: %v, %v, %v", adopted, found, err)
	}
}

// An engine that is tied to its manager is not let go.
func TestReleaseOfATiedEngine(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.OnManagerExit = "kill"
	p, _ := ready(t, cfg)
	pid := p.Status().PID
	p.Release()
	if alive(pid) {
		t.Error("it runs on")
	}
	nothingLeft(t, p)
}
