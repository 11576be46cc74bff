package fleet

import (
	"slices"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// needing are two replicas, of which "chat" needs "weights", whose load takes as long.
func needing(t *testing.T, load time.Duration) (weights, chat provisioner.ProvisionConfig) {
	t.Helper()
	weights = briskly(fakeConfig(t, enginetest.Behavior{LoadTime: load}))
	weights.PoolID = "weights"
	chat = briskly(fakeConfig(t, enginetest.Behavior{}))
	chat.PoolID, chat.StateDir, chat.Needs = "chat", weights.StateDir, []string{"weights"}
	return weights, chat
}

// of are the states that were told of a pool, in order, with the pool before each.
func (j *journal) of(kind provisioner.EventKind) (told []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		if e.Kind == kind {
			told = append(told, e.Pool+" "+string(e.State))
		}
	}
	return told
}

// before reports whether one thing was told, and before another.
func before(told []string, first, then string) bool {
	i, j := slices.Index(told, first), slices.Index(told, then)
	return i >= 0 && j >= 0 && i < j
}

func TestNeedsAreThereFirstAndLast(t *testing.T) {
	t.Parallel()
	weights, chat := needing(t, 300*time.Millisecond)
	s, j := superviseReady(t, chat, weights)
	if told := j.of(provisioner.EventState); !before(told, "weights ready", "chat preparing") {
		t.Errorf("%q", told)
	}
	waited := false
	j.mu.Lock()
	for _, e := range j.events {
		p := e.Progress
		waited = waited || e.Kind == provisioner.EventProgress && e.Pool == "chat" && p.Step == report.StepWait && p.What == "weights/r0" &&
			strings.HasPrefix(p.String(), "waiting for weights/r0, which it needs (")
	}
	j.mu.Unlock()
	if !waited {
		t.Error("the wait was not told")
	}
	if s.Status()[0].Progress != nil {
		t.Errorf("it still waits: %+v", s.Status()[0].Progress)
	}
	if err := s.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if told := j.of(provisioner.EventState); !before(told, "chat stopped", "weights stopping") || slices.Contains(told, "chat failed") {
		t.Errorf("%q", told)
	}
}

// A loss restarts what needs it, once it is there again, and that is no failure of the engine's; or it is ignored.
func TestLossOfWhatIsNeeded(t *testing.T) {
	t.Parallel()
	for _, onLoss := range []string{"restart", "ignore"} {
		t.Run(onLoss, func(t *testing.T) {
			t.Parallel()
			weights, chat := needing(t, 0)
			chat.OnLoss = onLoss
			s, j := superviseReady(t, weights, chat)
			was := s.Status()
			enginetest.Kill(t, was[0].URL, enginetest.Death{Code: 1})
			eventually(t, "the needed one is back", func() bool {
				now := s.Status()[0]
				return now.State == provisioner.StateReady && now.LaunchID != was[0].LaunchID
			})
			if onLoss == "ignore" {
				if now := s.Status()[1]; now.LaunchID != was[1].LaunchID || now.State != provisioner.StateReady {
					t.Errorf("%+v", now)
				}
				return
			}
			eventually(t, "and so is the other", func() bool {
				now := s.Status()[1]
				return now.State == provisioner.StateReady && now.LaunchID != was[1].LaunchID
			})
			now := s.Status()
			if now[1].StartedAt.Before(now[0].StartedAt) {
				t.Errorf("it was started first: %+v", now)
			}
			if past := now[1].Restarts; past.Attempts != 0 || past.Failures != 0 || past.Last != "" {
				t.Errorf("%+v", past)
			}
			wantNote(t, j, "it has lost weights/r0, which it needs (")
		})
	}
}

// The next manager adopts both; what has lost what it needs while nobody looked is started again.
func TestNeedsOverAManagersEnd(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		weights, chat := needing(t, 0)
		s, _ := superviseReady(t, weights, chat)
		was := s.Status()
		if err := s.Release(); err != nil {
			t.Fatal(err)
		}
		if lost {
			enginetest.Kill(t, was[0].URL, enginetest.Death{Code: 1})
			eventually(t, "it is gone", func() bool {
				all, err := provisioner.Statuses(weights.StateDir)
				return err == nil && slices.ContainsFunc(all, func(s provisioner.Status) bool { return s.Pool == "weights" && s.PID == 0 })
			})
		}
		next, _ := superviseReady(t, weights, chat)
		eventually(t, "both are ready", func() bool {
			now := next.Status()
			return now[0].State == provisioner.StateReady && now[1].State == provisioner.StateReady &&
				(now[0].LaunchID == was[0].LaunchID) == !lost && (now[1].LaunchID == was[1].LaunchID) == !lost
		})
	}
}

// Who loads when it loses what it needs is started again, too.
func TestLossDuringALoad(t *testing.T) {
	t.Parallel()
	weights, chat := needing(t, 0)
	chat.Provisioning.Binary = fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour}).Provisioning.Binary
	j := &journal{}
	s, err := Open(bounded(t), Options{OnEvent: j.add}, weights, chat)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.KillAll(bounded(t)) })
	eventually(t, "it loads", func() bool { return s.Status()[1].State == provisioner.StateStarting })
	was := s.Status()
	if err := s.Stop(bounded(t), weights.ID(), provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it waits", func() bool {
		now := s.Status()[1]
		return now.PID == 0 && now.Progress != nil && now.Progress.What == "weights/r0" && now.Progress.Holder == "stopped"
	})
	if err := s.Start(bounded(t), weights.ID()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it loads again", func() bool {
		now := s.Status()[1]
		return now.State == provisioner.StateStarting && now.LaunchID != was[1].LaunchID
	})
}

func TestNeedsInAFile(t *testing.T) {
	t.Parallel()
	pool := func(id string, needs ...string) provisioner.ProvisionConfig {
		return provisioner.ProvisionConfig{PoolID: id, ReplicaID: "r0", Engine: "llamacpp", Port: 8000 + int(id[0]), Model: settings.Model{ID: "/m.gguf"}, Needs: needs}
	}
	for want, cfgs := range map[string][]provisioner.ProvisionConfig{
		"": {pool("a", "b", "c"), pool("b", "c"), pool("c")},
		`[0].needs[0]: unknown pool "d"; the pools are a, b`:                             {pool("a", "d"), pool("b")},
		`[0].needs[0]: a needs a, so that`:                                               {pool("a", "a")},
		`[0].needs[0]: a needs b needs c needs a, so that none of them can be the first`: {pool("a", "b"), pool("b", "c"), pool("c", "a")},
		`[0].needs[1]: pool "b" is here twice; remove one`:                               {pool("a", "b", "b"), pool("b")},
	} {
		err := provisioner.ValidateReplicas(cfgs)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
