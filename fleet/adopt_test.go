package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet/internal/mailbox"
	"github.com/llama-orch/engine-provisioner/fleet/internal/restarts"
	"github.com/llama-orch/engine-provisioner/internal/hooks"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// handOver ends a manager as an upgrade does, and reaps its engines, which are this process's children, in its stead.
func handOver(t *testing.T, s *Fleet) {
	t.Helper()
	replicas := s.all()
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	for _, r := range replicas {
		if p := r.launch; p != nil && errors.Is(p.Err(), provisioner.ErrReleased) {
			over := make(chan struct{})
			go func() { defer close(over); reaped(p.Status().PID) }()
			t.Cleanup(func() { <-over })
		}
	}
}

// An engine that a start script makes another user's is the same process: setpriv, gosu and su-exec execute it.
func TestAdoptsWhatDropsItsUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		skip(t, "only root can become another user")
	}
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	engine := cfg.Provisioning.Binary.Path
	script := filepath.Join(cfg.Dir, "llama-server")
	// The test's own folders are root's alone; the capability lets nobody read them.
	writeProgram(t, script, fmt.Sprintf("#!/bin/sh\nexec setpriv --reuid=65534 --clear-groups --inh-caps=+dac_override --ambient-caps=+dac_override %q \"$@\"\n", engine))
	cfg.Provisioning.Binary.Path = script
	first, _ := superviseReady(t, cfg)
	was := first.Status()[0]
	var info syscall.Stat_t
	if err := syscall.Stat(fmt.Sprintf("/proc/%d", was.PID), &info); err != nil || info.Uid != 65534 {
		t.Fatalf("it runs as user %d (%v)", info.Uid, err)
	}
	handOver(t, first)
	second, j := superviseReady(t, cfg)
	if now := second.Status()[0]; now.PID != was.PID || now.State != provisioner.StateReady {
		t.Errorf("was %+v\nnow %+v\n%+v", was, now, j.recoveries())
	}
}

// An engine that cannot answer is adopted like any other: it may be busy, or held by somebody.
func TestAdoptsWhatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for name, silence := range map[string]func(t *testing.T, s provisioner.Status){
		"its health is silent": func(t *testing.T, s provisioner.Status) { enginetest.Hang(t, s.URL) },
		"suspended":            func(t *testing.T, s provisioner.Status) { _ = syscall.Kill(s.PID, syscall.SIGSTOP) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
			cfg.Liveness.Period = settings.Duration(time.Hour) // the judge has a test of its own
			cfg.Stop.Grace = settings.Duration(100 * time.Millisecond)
			first, _ := superviseReady(t, cfg)
			was := first.Status()[0]
			handOver(t, first)
			silence(t, was)
			second, j := superviseReady(t, cfg)
			if now := second.Status()[0]; now.PID != was.PID || now.LaunchID != was.LaunchID || now.State != provisioner.StateReady {
				t.Errorf("was %+v\nnow %+v", was, now)
			}
			if got := j.recoveries(); len(got) != 1 || got[0].Message != string(report.RecoveredAdopted) {
				t.Errorf("recoveries %+v", got)
			}
			_ = syscall.Kill(was.PID, syscall.SIGCONT)
		})
	}
}

// An upgrade hands over what loads, as a SIGKILL of the manager does: the load goes on, and the next one waits for its end.
func TestReleaseHandsOverALoad(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{LoadTime: 5 * time.Second}))
	first, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	eventually(t, "it loads", func() bool { return first.Status()[0].State == provisioner.StateStarting })
	was := first.Status()[0]
	handOver(t, first)
	if !alive(was.PID) {
		t.Fatal("the load was ended")
	}
	second, _ := superviseReady(t, cfg)
	if now := second.Status()[0]; now.PID != was.PID || now.State != provisioner.StateReady {
		t.Errorf("was %+v\nnow %+v", was, now)
	}
}

// A load that came to its end while nobody was there to see it is ready, however long ago that was.
func TestAdoptsALoadThatIsOverdue(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{LoadTime: 5 * time.Second}))
	first, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	eventually(t, "it loads", func() bool { return first.Status()[0].State == provisioner.StateStarting })
	was := first.Status()[0]
	files := first.replicas[0].files
	handOver(t, first)
	rewrite(t, files, func(_, launch map[string]any) { launch["ready"].(map[string]any)["timeout"] = "1ns" })
	second, _ := superviseReady(t, cfg)
	if now := second.Status()[0]; now.PID != was.PID || now.State != provisioner.StateReady {
		t.Errorf("was %+v\nnow %+v", was, now)
	}
}

// A start that is released between its process and its end is handed over, too.
func TestReleaseDuringAStart(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour}))
	reached, goOn := make(chan struct{}), make(chan struct{})
	first, _ := supervised(t, []provisioner.ProvisionConfig{cfg}, withHooks(func(h *hooks.Hooks) {
		h.Failpoint = func(name string) {
			if name == "after_fork" {
				close(reached)
				<-goOn
			}
		}
	}))
	<-reached
	released := make(chan error, 1)
	go func() { released <- first.Release() }()
	eventually(t, "the release is under way", func() bool { return first.over() != nil })
	close(goOn)
	if err := <-released; err != nil {
		t.Fatal(err)
	}
	p := first.all()[0].launch
	if !errors.Is(p.Err(), provisioner.ErrReleased) || !alive(p.Status().PID) {
		t.Fatalf("%+v (%v)", p.Status(), p.Err())
	}
	adopted, found, err := provisioner.Recover(bounded(t), cfg.StateDir)
	if err != nil || len(adopted) != 1 {
		t.Fatalf("%+v (%v)", found, err)
	}
	if err := adopted[0].Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	reaped(p.Status().PID)
	nothingLeft(t, p)
}

// Another program's stop is left to it, whatever its drain takes, and the replica is started when that is over.
func TestSuperviseWaitsForAnothersStop(t *testing.T) {
	t.Parallel()
	cfg := briskly(busyConfig(t, 3*time.Second))
	was := abandoned(t, cfg)
	results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
	other, err := provisioner.Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	stopped := stopping(bounded(t), other)
	awaitDraining(t, other)
	eventually(t, "it is written down", func() bool {
		all, _ := Statuses(cfg.StateDir)
		return all[0].State == provisioner.StateDraining
	})
	s, j := supervised(t, []provisioner.ProvisionConfig{cfg})
	if got := j.recoveries(); len(got) != 1 || got[0].Message != "left: another command is stopping it" {
		t.Errorf("recoveries %+v", got)
	}
	if r := <-results; r.Err != nil || r.Status != 200 {
		t.Errorf("the client got %+v", r)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Stop: %v", err)
	}
	reaped(was.Status().PID)
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wantNote(t, j, "another command is stopping its engine; the start waits for that")
	if now := s.Status()[0]; now.State != provisioner.StateReady || now.PID == was.Status().PID {
		t.Errorf("%+v", now)
	}
}

// A stop that was interrupted is finished with its own drain, and the call does not wait for that.
func TestSuperviseFinishesAnEarlierStop(t *testing.T) {
	t.Parallel()
	cfg := briskly(busyConfig(t, 8*time.Second))
	was := abandoned(t, cfg)
	results := inFlight(t, cfg, 1, `{"prompt":"x"}`)
	rewrite(t, filesOf(was), func(rec, _ map[string]any) { rec["desired"], rec["state"] = "stopped", "draining" })
	s, j := supervised(t, []provisioner.ProvisionConfig{cfg})
	if !alive(was.Status().PID) {
		t.Error("the call has waited for the drain")
	}
	if r := <-results; r.Err != nil || r.Status != 200 {
		t.Errorf("the client got %+v", r)
	}
	reaped(was.Status().PID)
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if got := j.recoveries(); len(got) != 1 || got[0].Message != "stopped: its stop was interrupted" {
		t.Errorf("recoveries %+v", got)
	}
	if now := s.Status()[0]; now.PID == was.Status().PID {
		t.Errorf("it was not started again: %+v", now)
	}
}

// A request that is put between the manager's lock and its first look is answered; what an earlier one has left is not.
func TestInboxKeepsWhatIsAsked(t *testing.T) {
	t.Parallel()
	s := &Fleet{state: t.TempDir()}
	dir := filepath.Join(s.state, state.RequestsName)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * mailbox.Patience)
	for name, old := range map[string]bool{"new.json": false, "old.json": true, "new.taken": false, "new.answer": false, "old.answer": true} {
		path := filepath.Join(dir, name)
		data, _ := json.Marshal(request{Kind: requestReset})
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if old {
			if err := os.Chtimes(path, long, long); err != nil {
				t.Fatal(err)
			}
		}
	}
	newInbox(s, Options{})
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 || filepath.Base(left[0]) != "new.json" {
		t.Errorf("left: %v (%v)", left, err)
	}
}

// A clock that was set back makes no wait longer than it can be, for nobody who reads of it.
func TestResumeAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{}).WithDefaults()
	cfg.Restart.MaxDelay, cfg.Restart.InitialDelay, cfg.Restart.CooldownMax = settings.Duration(10*time.Second), settings.Duration(time.Second), settings.Duration(20*time.Minute)
	for phase, limit := range map[report.Phase]time.Duration{report.PhaseBackoff: 13 * time.Second, report.PhaseOpen: 25 * time.Minute} {
		files := state.In(t.TempDir(), "pool-r0")
		kept := restarts.Kept{Pool: "pool", Replica: "r0", Restarts: report.Restarts{Phase: phase, RetryAt: time.Now().AddDate(0, 6, 0)}}
		if err := files.WriteRestarts(kept); err != nil {
			t.Fatal(err)
		}
		r := alone(cfg, files.State)
		kept, err := restarts.Read(files)
		if err != nil {
			t.Fatal(err)
		}
		for who, at := range map[string]time.Time{"the manager": r.past.RetryAt, "whoever reads the file": kept.RetryAt} {
			if wait := time.Until(at); wait <= 0 || wait > limit {
				t.Errorf("%s: %s waits for %s", phase, who, wait)
			}
		}
	}
}
