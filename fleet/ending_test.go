package fleet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

var errCaller = errors.New("the caller has gone")

func gone() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errCaller)
	return ctx
}

// A kill is a remark. Beside a failure it would be taken for all that happened.
func TestKillHidesNoFailure(t *testing.T) {
	t.Parallel()
	abort := fakeConfig(t, enginetest.Behavior{IgnoreTerm: true})
	abort.Stop.Grace = settings.Duration(50 * time.Millisecond)
	abort.Drain.Hooks = []settings.DrainHook{{Command: []string{"false"}, OnFailure: "abort"}}
	one, _ := ready(t, abort)
	if err := one.Stop(bounded(t)); !errors.Is(err, provisioner.ErrDrainAborted) || errors.Is(err, provisioner.ErrKilled) {
		t.Errorf("one launch: %v", err)
	}
	nothingLeft(t, one)

	killed := fakeConfig(t, enginetest.Behavior{IgnoreTerm: true})
	killed.StateDir, killed.ReplicaID, killed.Stop.Grace = abort.StateDir, "r1", abort.Stop.Grace
	both, err := opened(bounded(t), []provisioner.ProvisionConfig{abort, killed}, provisioner.WithCacheDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if err := both.WaitReady(bounded(t)); err != nil {
		t.Error(err)
	}
	if err := both.Shutdown(bounded(t)); !errors.Is(err, provisioner.ErrDrainAborted) || errors.Is(err, provisioner.ErrKilled) {
		t.Errorf("two replicas: %v", err)
	}
	s, _ := superviseReady(t, killed)
	if err := s.Shutdown(bounded(t)); !errors.Is(err, provisioner.ErrKilled) {
		t.Errorf("nothing else is wrong: %v", err)
	}
}

// A kill cuts a Stop short and returns what it does, also later. Whoever waits no longer for it has hurt nobody.
func TestSupervisorStopsOnce(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{IgnoreTerm: true})
	cfg.Stop.Grace = settings.Duration(time.Hour)
	s, j := superviseReady(t, cfg)
	first := make(chan error, 1)
	go func() { first <- s.Shutdown(context.Background()) }()
	eventually(t, "the engine is being stopped", func() bool { return s.Status()[0].State == provisioner.StateStopping })
	if err := s.Shutdown(gone()); !errors.Is(err, errCaller) {
		t.Errorf("a Stop that nobody waits for: %v", err)
	}
	if now := s.Status()[0]; now.State != provisioner.StateStopping || len(first) > 0 {
		t.Errorf("the end of a context has killed it: %+v", now)
	}
	second := s.KillAll(bounded(t))
	if err := await(t, first); !errors.Is(err, provisioner.ErrKilled) || !errors.Is(second, provisioner.ErrKilled) {
		t.Errorf("the first says %v, the second %v", err, second)
	}
	if err := s.Shutdown(bounded(t)); !errors.Is(err, provisioner.ErrKilled) {
		t.Errorf("afterwards: %v", err)
	}
	if err := s.Release(); err != nil {
		t.Errorf("there is nothing to release: %v", err)
	}
	if err := s.Start(bounded(t), provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}); !errors.Is(err, provisioner.ErrStopped) {
		t.Errorf("Reset: %v", err)
	}
	if _, err := s.Apply(bounded(t), []provisioner.ProvisionConfig{cfg}); !errors.Is(err, provisioner.ErrStopped) {
		t.Errorf("Apply: %v", err)
	}
	wantStates(t, j, provisioner.StatePreparing, provisioner.StateStarting, provisioner.StateReady, provisioner.StateDraining, provisioner.StateStopping, provisioner.StateStopped)
}

// A change that is under way may be adopting or ending engines: until it is over, no other manager may begin.
func TestSupervisorEndsAfterAChange(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	s, _ := superviseReady(t, cfg)
	done, err := s.begin(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(bounded(t)) }()
	eventually(t, "the engine is stopped", func() bool { return closed(s.replicas[0].done) })
	if !state.Managed(s.state) || closed(s.Done()) {
		t.Error("the state directory was given back")
	}
	done()
	if err := await(t, stopped); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// Nobody may take an engine that runs on for one that was stopped.
func TestSupervisorIsReleased(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	s, _ := superviseReady(t, cfg)
	pid := s.Status()[0].PID
	for range 2 {
		if err := s.Release(); err != nil {
			t.Fatal(err)
		}
	}
	_, applied := s.Apply(bounded(t), []provisioner.ProvisionConfig{cfg})
	for name, err := range map[string]error{
		"Apply": applied, "Stop": s.Shutdown(bounded(t)), "Wait": s.Wait(bounded(t)),
		"Reset":       s.Start(bounded(t), provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}),
		"StopReplica": s.Stop(bounded(t), provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}, provisioner.StopOptions{}),
		"Reload":      s.Reload(bounded(t), cfg),
	} {
		if !errors.Is(err, provisioner.ErrReleased) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !alive(pid) {
		t.Errorf("the engine, pid %d, is gone", pid)
	}
	next, _ := superviseReady(t, cfg)
	if got := next.Status()[0].PID; got != pid {
		t.Errorf("pid %d runs instead of %d", got, pid)
	}
}

// A replica that is stopped while its start is being prepared has not failed.
func TestStopReplicaWhilePreparing(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	script(t, &cfg, "exec cat '"+pipe+"'")
	s, j := supervised(t, []provisioner.ProvisionConfig{cfg})
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := s.Stop(bounded(t), provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}, provisioner.StopOptions{}); err != nil {
		t.Error(err)
	}
	if got := s.Status()[0]; got.State != provisioner.StateStopped || got.Restarts.Phase != report.PhaseStopped {
		t.Errorf("%+v, %+v", got, got.Restarts)
	}
	wantStates(t, j, provisioner.StatePreparing, provisioner.StateStopped)
}

// Whoever is told of a failure sees what follows from it.
func TestFailureAndStatusAgree(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{LoadTime: time.Minute, DieLoading: &enginetest.Death{Code: 1}}))
	cfg.Restart.InitialDelay = settings.Duration(time.Hour)
	cfg.Restart.MaxDelay = cfg.Restart.InitialDelay
	s, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	if _, ok := errors.AsType[*provisioner.ExitError](s.WaitReady(bounded(t))); !ok {
		t.Error("the engine did not die")
	}
	if got := *s.Status()[0].Restarts; got.Phase != report.PhaseBackoff || got.Failures != 1 || got.RetryAt.IsZero() {
		t.Errorf("%+v", got)
	}
}

// Replicas of two state directories have no manager in common.
func TestAFleetHasOneStateDirectory(t *testing.T) {
	t.Parallel()
	one, other := fakeConfig(t, enginetest.Behavior{}), fakeConfig(t, enginetest.Behavior{})
	other.ReplicaID = "r1"
	_, err := opened(bounded(t), []provisioner.ProvisionConfig{one, other})
	config, ok := errors.AsType[*provisioner.ConfigError](err)
	if !ok || len(config.Problems) != 1 || config.Problems[0].Key != "StateDir" {
		t.Error(err)
	}
}
