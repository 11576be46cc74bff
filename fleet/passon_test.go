package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// What only the provisioner acts on is taken over by the engine that runs, for this manager, for commands and for the next.
func TestApplyUpdatesInPlace(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, j := superviseReady(t, cfg)
	was := s.Status()[0]
	for key, change := range map[string]func(*provisioner.ProvisionConfig){
		"drain.timeout": func(c *provisioner.ProvisionConfig) { c.Drain.Timeout = new(settings.Duration(7 * time.Second)) },
		"drain.hooks": func(c *provisioner.ProvisionConfig) {
			c.Drain.Hooks = []settings.DrainHook{{Command: []string{"true"}}}
		},
		"stop.grace":      func(c *provisioner.ProvisionConfig) { c.Stop.Grace = settings.Duration(11 * time.Second) },
		"liveness.period": func(c *provisioner.ProvisionConfig) { c.Liveness.Period = settings.Duration(2 * time.Second) },
		"restart.initial_delay": func(c *provisioner.ProvisionConfig) {
			c.Restart.InitialDelay = settings.Duration(20 * time.Millisecond)
		},
		"ready.stall":        func(c *provisioner.ProvisionConfig) { c.Ready.Stall = settings.Duration(time.Minute) },
		"logs.keep":          func(c *provisioner.ProvisionConfig) { c.Logs.Keep = 2 },
		"fit":                func(c *provisioner.ProvisionConfig) { c.Fit = "off" },
		"expose":             func(c *provisioner.ProvisionConfig) { c.Expose = settings.ExposeKeyed },
		"restart.open_limit": func(c *provisioner.ProvisionConfig) { c.Restart.OpenLimit = settings.Duration(time.Hour) },
		"model.id":           func(c *provisioner.ProvisionConfig) { c.Model.ID = "local:" + c.Model.ID }, // the same file
	} {
		next := cfg
		change(&next)
		wantApplied(t, s, []provisioner.ProvisionConfig{next}, "r0 updated")
		now := s.Status()[0]
		if now.PID != was.PID || now.LaunchID != was.LaunchID || now.State != provisioner.StateReady || now.Outdated {
			t.Fatalf("%s: %+v, was %+v", key, now, was)
		}
		wantNote(t, j, "it runs on under new settings: "+key)
		wantApplied(t, s, []provisioner.ProvisionConfig{next}, "r0 unchanged")
		cfg = next
	}
	if r := s.Status()[0].Restarts; r.Phase != report.PhaseRunning || r.Total != 0 || r.ReadyAt.After(time.Now()) {
		t.Errorf("restarts %+v", r)
	}
	wantDifferences(t, cfg)
	files := filesAt(cfg)
	rec, err := readRecord(files)
	if err != nil || *rec.Drain.Timeout != settings.Duration(7*time.Second) || len(rec.Drain.Hooks) != 1 || rec.Grace != settings.Duration(11*time.Second) ||
		rec.Logs.Keep != 2 || rec.Launch.Ready.Stall != settings.Duration(time.Minute) || rec.Model != cfg.Model.ID || rec.Desired != "running" {
		t.Errorf("record %+v (%v)", rec, err)
	}
	if h, err := provisioner.ReadHandoff(files.Handoff()); err != nil || h.Model.ID != cfg.Model.ID || h.Process.PID != was.PID {
		t.Errorf("handoff %+v (%v)", h, err)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	next, _ := superviseReady(t, cfg)
	if now := next.Status()[0]; now.PID != was.PID || now.Outdated {
		t.Errorf("the next manager: %+v", now)
	}
}

// The engine stays this program's child, and what it dies of afterwards is known and treated by the new settings.
func TestUpdatedEngineIsLookedAfter(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, j := superviseReady(t, cfg)
	was := s.Status()[0]
	cfg.Restart.Mode = "never"
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 updated")
	enginetest.Kill(t, was.URL, enginetest.Death{Code: 7, Stderr: "a pity\n"})
	eventually(t, "it is given up", func() bool { return s.Status()[0].Restarts.Phase == report.PhaseFailed })
	if last := s.Status()[0].Restarts.Last; !strings.Contains(last, "exited with code 7 after it was ready") {
		t.Errorf("it is said to have ended of %q", last)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	states := 0
	for _, e := range j.events {
		if e.Kind == provisioner.EventState && e.State == provisioner.StateReady {
			states++
		}
	}
	if states != 1 {
		t.Errorf("%d events say that it became ready", states)
	}
}

// The endpoints of a custom server are the provisioner's matter, too.
func TestUpdateOfCustomEndpoints(t *testing.T) {
	t.Parallel()
	cfg := briskly(customConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	was := s.Status()[0]
	custom := *cfg.Custom
	custom.Health, custom.Grace = "/v1/health", settings.Duration(3*time.Second)
	cfg.Custom, cfg.Stop.Grace = &custom, 0
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 updated")
	if now := s.Status()[0]; now.PID != was.PID {
		t.Errorf("%+v", now)
	}
	if spec := recordOf(t, s.replicas[0].launch); spec.Launch.Spec.Health != "/v1/health" || spec.Grace != settings.Duration(3*time.Second) {
		t.Errorf("it is asked for %s and has a grace of %s", spec.Launch.Spec.Health, time.Duration(spec.Grace))
	}
}

// An engine that loads goes on loading.
func TestUpdateWhileLoading(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{LoadTime: 2 * time.Second}))
	s, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	eventually(t, "it loads", func() bool { return strings.Contains(s.Status()[0].Heard, "Loading model") })
	was := s.Status()[0]
	cfg.Drain.Timeout = new(settings.Duration(7 * time.Second))
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 updated")
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	now := s.Status()[0]
	if now.PID != was.PID || now.Restarts.Total != 0 {
		t.Errorf("%+v, was %+v", now, was)
	}
	if got := *recordOf(t, s.replicas[0].launch).Drain.Timeout; got != settings.Duration(7*time.Second) {
		t.Errorf("it is drained for %s", time.Duration(got))
	}
}

// One that is tied to its manager stays so, and alive.
func TestUpdateOfATiedEngine(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	cfg.OnManagerExit = "kill"
	s, _ := superviseReady(t, cfg)
	was := s.Status()[0]
	cfg.Logs.Keep = 2
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 updated")
	if now := s.Status()[0]; now.PID != was.PID || now.State != provisioner.StateReady {
		t.Errorf("%+v", now)
	}
}

// A stop that another program has begun is not undone by new settings.
func TestUpdateWhileStopping(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	p := s.replicas[0].launch
	turn, err := state.TryLock(filesOf(p).StopLock()) // the other program is at it
	if err != nil {
		t.Fatal(err)
	}
	defer turn.Release()
	rewrite(t, filesOf(p), func(rec, _ map[string]any) { rec["desired"], rec["state"] = "stopped", "draining" })
	cfg.Drain.Timeout = new(settings.Duration(7 * time.Second))
	results, err := s.Apply(bounded(t), []provisioner.ProvisionConfig{cfg})
	if err != nil || results[0].Result != ReloadFailed {
		t.Fatalf("%+v (%v)", results, err)
	}
	wantText(t, results[0].Err, "cannot reload pool/r0, nothing was changed: its engine is being stopped")
	if rec, err := readRecord(filesOf(p)); err != nil || rec.Desired != "stopped" {
		t.Errorf("%+v (%v)", rec, err)
	}
}

// Settings that were weighed while no engine ran are given to the one that runs by now, as they are.
func TestUpdateOfALaunchThatHasBegunSince(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	r, err := s.find(poolR0)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Status()[0]
	cfg.Logs.Keep, cfg.Stop.Grace = 7, settings.Duration(7*time.Second)
	if err := r.ask(bounded(t), order{kind: orderUpdate, cfg: cfg}); err != nil {
		t.Fatal(err)
	}
	if now := s.Status()[0]; now.LaunchID != before.LaunchID || now.State != provisioner.StateReady {
		t.Errorf("%+v, before %+v", now, before)
	}
	r.mu.Lock()
	p := r.launch
	r.mu.Unlock()
	if c, err := p.Compare(bounded(t), cfg); err != nil || len(c.Differs) > 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := s.Stop(bounded(t), poolR0, provisioner.StopOptions{}); err != nil {
		t.Error(err)
	}
}

// New settings, stops and resets can come at any time, from anywhere.
func TestUpdateRaces(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	ctx := bounded(t)
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			for i := range 10 {
				next := cfg
				next.Logs.Keep = 2 + (10*n+i)%7
				if _, err := s.Apply(ctx, []provisioner.ProvisionConfig{next}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range 3 {
			if err := s.Stop(ctx, poolR0, provisioner.StopOptions{}); err != nil {
				t.Error(err)
			}
			if err := s.Start(ctx, poolR0); err != nil {
				t.Error(err)
			}
		}
	})
	all.Go(func() {
		for range 100 {
			_ = s.Status()
		}
	})
	all.Wait()
	untilReady(t, s, "")
}

// What was given up is tried again by a reload, though its settings are the same, and keeps nobody from being reloaded.
func TestApplyTriesAgain(t *testing.T) {
	t.Parallel()
	cfgs := fakeConfigs(t, 2, enginetest.Behavior{})
	for i := range cfgs {
		cfgs[i] = briskly(cfgs[i])
	}
	cfgs[1].Model.ID += "-2"
	s, _ := supervised(t, cfgs)
	eventually(t, "one is given up, the other ready", func() bool {
		now := s.Status()
		return now[0].State == provisioner.StateReady && now[1].Restarts.Phase == report.PhaseFailed
	})
	next := slices.Clone(cfgs)
	next[0].Flags = []string{"--ctx-size", "777"}
	results := wantApplied(t, s, next, "r0 reloaded", "r1 failed")
	wantText(t, results[1].Err, "cannot start pool/r1 again", "-2")
	if err := os.WriteFile(cfgs[1].Model.ID, []byte(enginetest.GGUF), 0o600); err != nil {
		t.Fatal(err)
	}
	wantApplied(t, s, next, "r0 unchanged", "r1 retried")
	wantApplied(t, s, next, "r0 unchanged", "r1 unchanged")

	// Also with settings that only the provisioner acts on, and one that waits for its next try.
	if err := os.Remove(cfgs[1].Model.ID); err != nil {
		t.Fatal(err)
	}
	enginetest.Kill(t, s.Status()[1].URL, enginetest.Death{Code: 1})
	eventually(t, "its breaker is open", func() bool { return s.Status()[1].Restarts.Phase == report.PhaseOpen })
	if err := os.WriteFile(cfgs[1].Model.ID, []byte(enginetest.GGUF), 0o600); err != nil {
		t.Fatal(err)
	}
	next[1].Logs.Keep = 2
	wantApplied(t, s, next, "r0 unchanged", "r1 retried")
	if err := s.Reload(bounded(t), next[1]); err != nil {
		t.Error(err)
	}
}

// swapped are two replicas, of one pool or of two, whose ports are exchanged.
func swapped(t *testing.T, pools ...string) (before, after []provisioner.ProvisionConfig) {
	t.Helper()
	before = fakeConfigs(t, len(pools), enginetest.Behavior{})
	for i, pool := range pools {
		before[i] = briskly(before[i])
		before[i].PoolID = pool
	}
	after = slices.Clone(before)
	for i := range after {
		after[i].Port = before[(i+1)%len(before)].Port
	}
	return before, after
}

// Replicas can take over each other's ports.
func TestApplySwapsPorts(t *testing.T) {
	t.Parallel()
	for name, pools := range map[string][]string{"in one pool": {"a", "a"}, "in two": {"a", "b"}, "in a ring": {"a", "b", "a"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, after := swapped(t, pools...)
			s, _ := superviseReady(t, before...)
			was := s.Status()
			var want []string
			for i := range after {
				want = append(want, fmt.Sprintf("r%d reloaded", i))
			}
			wantApplied(t, s, after, want...)
			for i, now := range s.Status() {
				if now.State != provisioner.StateReady || now.LaunchID == was[i].LaunchID || !strings.HasSuffix(now.URL, fmt.Sprint(after[i].Port)) {
					t.Errorf("%+v, was %+v", now, was[i])
				}
			}
		})
	}
}

// When one of them does not become ready, all come back as they were.
func TestApplySwapComesBack(t *testing.T) {
	t.Parallel()
	before, after := swapped(t, "a", "b")
	s, _ := superviseReady(t, before...)
	after[1] = dying(t, after[1])
	results := wantApplied(t, s, after, "r0 failed", "r1 failed")
	wantText(t, results[0].Err, "cannot reload a/r0, the old settings are back: b/r1, with which it changes ports, failed", "bad new settings")
	wantText(t, results[1].Err, "cannot reload b/r1, the old settings are back: ", "bad new settings")
	was := s.Status()
	for i, now := range was {
		if now.State != provisioner.StateReady || !strings.HasSuffix(now.URL, fmt.Sprint(before[i].Port)) {
			t.Errorf("%+v", now)
		}
	}
	// What can be found out before costs nobody a request.
	after[1] = before[1]
	after[1].Port, after[1].Model.ID = before[0].Port, "absent.gguf"
	results = wantApplied(t, s, after, "r0 failed", "r1 failed")
	wantText(t, results[0].Err, "cannot reload a/r0, nothing was changed", "absent.gguf")
	wantText(t, results[1].Err, "cannot reload b/r1, nothing was changed", "absent.gguf")
	for i, now := range s.Status() {
		if now.LaunchID != was[i].LaunchID {
			t.Errorf("%+v, was %+v", now, was[i])
		}
	}
	// Nor does a port that somebody keeps.
	taken := before[0]
	taken.Port = before[1].Port
	wantText(t, s.Reload(bounded(t), taken), "cannot reload a/r0, nothing was changed: port ", "is that of b/r1; change both at once")
}

// A swap that is called off by the end of the manager leaves nothing.
func TestStopDuringSwap(t *testing.T) {
	t.Parallel()
	before, after := swapped(t, "a", "b")
	for i := range before {
		before[i].Drain.Timeout = new(settings.Duration(10 * time.Minute))
		after[i].Drain.Timeout = before[i].Drain.Timeout
	}
	draining := make(chan struct{}, 2)
	hook := provisioner.WithDrainHook("held", func(ctx context.Context, h provisioner.Handoff) error {
		draining <- struct{}{}
		if h.PoolID == "a" {
			return nil
		}
		<-ctx.Done()
		return nil
	})
	s, _ := supervised(t, before, hook)
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	applied := make(chan []Reloaded, 1)
	go func() {
		results, err := s.Apply(context.Background(), after)
		if err != nil {
			t.Error(err)
		}
		applied <- results
	}()
	<-draining
	<-draining
	eventually(t, "one has left its port", func() bool { return s.Status()[0].State == provisioner.StateStopped })
	if err := s.KillAll(bounded(t)); err != nil && !errors.Is(err, provisioner.ErrKilled) {
		t.Errorf("Stop: %v", err)
	}
	for _, r := range <-applied {
		if r.Result != ReloadFailed || !errors.Is(r.Err, provisioner.ErrStopped) {
			t.Errorf("%+v", r)
		}
	}
}
