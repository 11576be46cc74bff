package fleet

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet/internal/board"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// briskly makes restarts and health checks quick enough to be waited for.
func briskly(cfg provisioner.ProvisionConfig) provisioner.ProvisionConfig {
	cfg.Restart = settings.Restart{
		InitialDelay: settings.Duration(10 * time.Millisecond), MaxDelay: settings.Duration(50 * time.Millisecond), StartBurst: 3,
		Cooldown: settings.Duration(time.Hour), CooldownMax: settings.Duration(time.Hour),
	}
	cfg.Liveness.Period = settings.Duration(time.Second)
	cfg.Stop.Grace = settings.Duration(10 * time.Second)
	return cfg
}

func superviseReady(t *testing.T, cfgs ...provisioner.ProvisionConfig) (*Fleet, *journal) {
	t.Helper()
	s, j := supervised(t, cfgs)
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return s, j
}

// untilReady waits for a ready launch other than the one with this id.
func untilReady(t *testing.T, s *Fleet, not string) provisioner.Status {
	t.Helper()
	var now provisioner.Status
	eventually(t, "another launch is ready", func() bool {
		now = s.Status()[0]
		return now.State == provisioner.StateReady && now.LaunchID != not
	})
	return now
}

func TestSuperviseRestartsACrashedEngine(t *testing.T) {
	t.Parallel()
	s, j := superviseReady(t, briskly(fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{{Kind: enginetest.NewSession}}})))
	first := s.Status()[0]
	worker := enginetest.Inspect(t, first.URL).Children[0]
	enginetest.Kill(t, first.URL, enginetest.Death{Code: 0}) // whatever the code
	second := untilReady(t, s, first.LaunchID)
	if alive(worker) {
		t.Error("the crashed engine's worker lives beside the new engine")
	}
	eventually(t, "the manager knows that it is ready", func() bool { return !s.Status()[0].Restarts.ReadyAt.IsZero() })
	if r := s.Status()[0].Restarts; r.Attempts != 1 || r.Total != 1 || r.Phase != report.PhaseRunning || !strings.Contains(r.Last, "exited with code 0") {
		t.Errorf("restarts %+v", r)
	}
	j.mu.Lock()
	i := slices.IndexFunc(j.events, func(e provisioner.Event) bool { return e.Kind == provisioner.EventRestart })
	j.mu.Unlock()
	if i < 0 {
		t.Fatal("no event tells of the restart")
	}
	if e := j.events[i]; e.LaunchID != first.LaunchID || e.Restarts.Phase != report.PhaseBackoff || e.Restarts.RetryAt.IsZero() {
		t.Errorf("event %+v", e)
	}
	if second.PID == first.PID {
		t.Errorf("still pid %d", second.PID)
	}
}

func TestSuperviseOpensTheBreaker(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour, DieLoading: &enginetest.Death{Code: 1, Stderr: "what a pity\n"}}))
	s, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	var exit *provisioner.ExitError
	if err := s.WaitReady(bounded(t)); !errors.As(err, &exit) {
		t.Errorf("WaitReady: %v", err)
	}
	eventually(t, "the breaker is open", func() bool { return s.Status()[0].Restarts.Phase == report.PhaseOpen })
	if r := s.Status()[0].Restarts; r.Failures != 3 || time.Until(r.RetryAt) < 50*time.Minute {
		t.Errorf("restarts %+v", r)
	}
	before := s.Status()[0].LaunchID
	if err := s.Start(bounded(t), poolR0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is tried again", func() bool { return s.Status()[0].LaunchID != before })
	if err := s.Start(bounded(t), poolR9); !errors.Is(err, provisioner.ErrNotFound) {
		t.Errorf("Reset of a stranger: %v", err)
	}
}

// The breaker stays open although the manager was replaced: one that crashes with its engines would never open it.
func TestSupervisePastSurvives(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour, DieLoading: &enginetest.Death{Code: 1}}))
	s, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	eventually(t, "the breaker is open", func() bool { return s.Status()[0].Restarts.Phase == report.PhaseOpen })
	want := *s.Status()[0].Restarts
	same := func(got report.Restarts) bool {
		return got.Phase == want.Phase && got.Failures == want.Failures && got.Attempts == want.Attempts && got.RetryAt.Equal(want.RetryAt)
	}
	// As it is while the manager lives, and so after its crash, and after an orderly Release.
	for _, end := range []func() error{func() error { return nil }, s.Release} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if got := alone(cfg.WithDefaults(), cfg.StateDir).history(); !same(got) {
			t.Errorf("the next manager reads %+v, want %+v", got, want)
		}
	}
	next, j := supervised(t, []provisioner.ProvisionConfig{cfg})
	if got := *next.Status()[0].Restarts; !same(got) {
		t.Errorf("the next manager goes on with %+v, want %+v", got, want)
	}
	if notes := j.notes(); !strings.Contains(notes, "it failed under an earlier manager, and is started in ") {
		t.Errorf("a wait that goes on is not told: %q", notes)
	}
	// Nobody waits for a manager that has let go.
	if err := s.Wait(bounded(t)); !errors.Is(err, provisioner.ErrReleased) {
		t.Errorf("Wait after Release: %v", err)
	}
}

func TestSuperviseGivesUpOnAPermanentCause(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	if err := os.Remove(cfg.Model.ID); err != nil {
		t.Fatal(err)
	}
	s, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	var start *provisioner.StartError
	if err := s.WaitReady(bounded(t)); !errors.As(err, &start) || start.Cause != engine.CauseModelMissing {
		t.Errorf("WaitReady: %v", err)
	}
	eventually(t, "it is given up", func() bool { return s.Status()[0].Restarts.Phase == report.PhaseFailed })
	if err := os.WriteFile(cfg.Model.ID, []byte(enginetest.GGUF), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(bounded(t), poolR0); err != nil {
		t.Fatal(err)
	}
	untilReady(t, s, "")
}

func TestSuperviseReplacesAHangingEngine(t *testing.T) {
	t.Parallel()
	for _, signal := range []string{"", "SIGABRT"} {
		t.Run("diagnose "+signal, func(t *testing.T) {
			t.Parallel()
			cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
			cfg.Liveness = settings.Liveness{
				Period: settings.Duration(20 * time.Millisecond), Timeout: settings.Duration(200 * time.Millisecond), DiagnoseSignal: signal,
				WedgedAfter: settings.Duration(2 * time.Second), TokenTimeout: settings.Duration(time.Second),
			}
			s, _ := superviseReady(t, cfg)
			first := s.Status()[0]
			enginetest.Hang(t, first.URL)
			untilReady(t, s, first.LaunchID)
			if last := s.Status()[0].Restarts.Last; !strings.Contains(last, "the engine hangs: /health unanswered for ") {
				t.Errorf("last failure: %q", last)
			}
		})
	}
}

func TestSuperviseLeavesASuspendedEngineAlone(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	cfg.Liveness.Period = settings.Duration(20 * time.Millisecond)
	s, j := superviseReady(t, cfg)
	first := s.Status()[0]
	if err := syscall.Kill(first.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is told", func() bool { return strings.Contains(j.notes(), "suspended") })
	if err := syscall.Kill(first.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if now := s.Status()[0]; now.LaunchID != first.LaunchID || now.State != provisioner.StateReady {
		t.Errorf("%+v", now)
	}
}

func TestSuperviseSeesAnotherCommandsStop(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	other, err := provisioner.Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the manager knows", func() bool { return s.Status()[0].Restarts.Phase == report.PhaseStopped })
	if now := s.Status()[0]; now.State != provisioner.StateStopped {
		t.Errorf("%+v", now)
	}
}

// Nor is an engine started again that another command has stopped while it was loading.
func TestSuperviseSeesAnotherCommandsStopOfALoad(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour}))
	s, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	eventually(t, "it loads", func() bool { return s.Status()[0].State == provisioner.StateStarting })
	other, err := provisioner.Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitReady(bounded(t)); !errors.Is(err, provisioner.ErrStopped) {
		t.Errorf("WaitReady: %v", err)
	}
	if now := s.Status()[0]; now.Restarts.Phase != report.PhaseStopped || now.Restarts.Attempts != 0 {
		t.Errorf("%+v, restarts %+v", now, now.Restarts)
	}
}

// alone is a replica that no goroutine looks after.
func alone(cfg provisioner.ProvisionConfig, stateDir string, opts ...provisioner.Option) *replica {
	s := &Fleet{state: stateDir, opts: opts, log: slog.New(slog.DiscardHandler), tell: func(provisioner.Event) {}, board: board.New(stateDir)}
	r := newReplica(s, cfg)
	r.keepStale()
	return r
}

// A launch that could not be killed is not gone on with: the replica would count as stopped by somebody, for ever.
func TestAnUnkilledLaunchIsNotGoneOnWith(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	p, _ := started(t, cfg)
	r := alone(cfg.WithDefaults(), cfg.StateDir, provisioner.WithCacheDir(t.TempDir()))
	r.launch = p
	if next, err := r.nextLaunch(); next != p || err != nil {
		t.Errorf("a launch that runs is not gone on with (%v)", err)
	}
	p.Release() // it is not this program's to stop any more, and lives
	t.Cleanup(func() {
		adopted, _, err := provisioner.Recover(bounded(t), cfg.StateDir)
		if err != nil || len(adopted) != 1 {
			t.Fatal(adopted, err)
		}
		go reaped(p.Status().PID)
		if err := adopted[0].Stop(bounded(t)); err != nil {
			t.Error(err)
		}
	})
	next, err := r.nextLaunch()
	if err != nil || next == p {
		t.Fatalf("it is gone on with (%v)", err)
	}
	if err := next.Start(bounded(t)); !errors.Is(err, provisioner.ErrBusy) || !provisioner.IncidentOf(err).Blameless {
		t.Errorf("the next start: %v", err)
	}
}

func TestOneManagerForADirectory(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	superviseReady(t, cfg)
	_, err := opened(bounded(t), []provisioner.ProvisionConfig{cfg})
	var locked *provisioner.LockedError
	if !errors.As(err, &locked) || !errors.Is(err, provisioner.ErrLocked) || !errors.Is(err, provisioner.ErrBusy) || locked.PID != os.Getpid() {
		t.Errorf("a second manager: %v", err)
	}
	if _, _, err := provisioner.Recover(bounded(t), cfg.StateDir); !errors.Is(err, provisioner.ErrLocked) {
		t.Errorf("Recover beside a manager: %v", err)
	}
}

// Adoption: a new manager goes on with the engines of the old one, without loading anything again.
func TestSuperviseAdopts(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	first, _ := superviseReady(t, cfg)
	was := first.Status()[0]
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	var reaping sync.WaitGroup
	reaping.Go(func() { reaped(was.PID) }) // the engine is this process's child, and the adopter cannot reap it
	t.Cleanup(reaping.Wait)

	second, j := superviseReady(t, cfg)
	now := second.Status()[0]
	if now.LaunchID != was.LaunchID || now.PID != was.PID || now.State != provisioner.StateReady || now.Outdated {
		t.Errorf("was %+v\nnow %+v", was, now)
	}
	if got := j.recoveries(); len(got) != 1 || got[0].Message != string(report.RecoveredAdopted) || got[0].PID != was.PID {
		t.Errorf("recoveries %+v", got)
	}
	if got := j.recoveries(); got[0].State != provisioner.StateReady || got[0].LaunchID != was.LaunchID || got[0].Handoff == nil ||
		got[0].Handoff.URL != was.URL {
		t.Errorf("an event of an adopted engine does not say where it is: %+v", got[0])
	}
	// Its death is seen like a child's, and it is replaced.
	enginetest.Kill(t, now.URL, enginetest.Death{Code: 3})
	untilReady(t, second, now.LaunchID)
}

func (j *journal) recoveries() []provisioner.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(j.events), func(e provisioner.Event) bool { return e.Kind != provisioner.EventRecovery })
}

func TestSuperviseMarksAnOutdatedEngine(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	abandoned(t, cfg)
	cfg.Ready.Stall = settings.Duration(time.Minute) // changes nothing about the launch
	same, _ := superviseReady(t, cfg)
	if same.Status()[0].Outdated {
		t.Error("outdated by a setting of the provisioner")
	}
	was := same.Status()[0]
	if err := same.Release(); err != nil {
		t.Fatal(err)
	}
	cfg.Flags = []string{"--ctx-size", "777"}
	s, _ := superviseReady(t, cfg)
	now := s.Status()[0]
	if !now.Outdated || now.PID != was.PID {
		t.Errorf("%+v", now)
	}
	if err := s.Reload(bounded(t), cfg); err != nil {
		t.Fatal(err)
	}
	now = s.Status()[0]
	if now.Outdated || now.PID == was.PID || !slices.Contains(enginetest.Inspect(t, now.URL).Argv, "777") {
		t.Errorf("after the reload: %+v", now)
	}
}

// A loop that hangs behind a health path that goes on saying 200 is found by asking for a token.
func TestSuperviseFindsAHangingLoop(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{Answer: enginetest.AnswerHang}))
	cfg.Ready.Answer = "off"
	cfg.Liveness = settings.Liveness{
		Period: settings.Duration(20 * time.Millisecond), TokenPeriod: settings.Duration(20 * time.Millisecond), TokenTimeout: settings.Duration(500 * time.Millisecond),
	}
	s, _ := superviseReady(t, cfg)
	first := s.Status()[0]
	untilReady(t, s, first.LaunchID)
	if last := s.Status()[0].Restarts.Last; !strings.Contains(last, "idle, but without a token: no answer in time") {
		t.Errorf("last failure: %q", last)
	}
}
