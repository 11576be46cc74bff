package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// wantApplied applies cfgs and compares the results, which are given as "replica result".
func wantApplied(t *testing.T, s *Fleet, cfgs []provisioner.ProvisionConfig, want ...string) []Reloaded {
	t.Helper()
	results, err := s.Apply(bounded(t), cfgs)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range results {
		got = append(got, fmt.Sprintf("%s %s", r.Replica, r.Result))
		if (r.Err != nil) != (r.Result == ReloadFailed) {
			t.Errorf("%s %s: %v", r.Replica, r.Result, r.Err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("results %q, want %q: %+v", got, want, results)
	}
	return results
}

func names(s *Fleet) (all []string) {
	for _, now := range s.Status() {
		all = append(all, now.Replica)
	}
	return all
}

// What has changed is replaced one at a time; the pool never lacks more than one replica.
func TestApplyChanges(t *testing.T) {
	t.Parallel()
	cfgs := fakeConfigs(t, 3, enginetest.Behavior{})
	for i := range cfgs {
		cfgs[i] = briskly(cfgs[i])
	}
	s, _ := superviseReady(t, cfgs...)
	was := s.Status()
	next := slices.Clone(cfgs)
	for i := range 2 {
		next[i].Flags = []string{"--ctx-size", "777"}
	}
	fewest := make(chan int)
	ctx, cancel := context.WithCancel(bounded(t))
	go func() {
		least := len(cfgs)
		for ctx.Err() == nil {
			ready := 0
			for _, now := range s.Status() {
				if now.State == provisioner.StateReady {
					ready++
				}
			}
			least = min(least, ready)
			time.Sleep(time.Millisecond)
		}
		fewest <- least
	}()
	wantApplied(t, s, next, "r0 reloaded", "r1 reloaded", "r2 unchanged")
	cancel()
	if least := <-fewest; least < 2 {
		t.Errorf("only %d were ready", least)
	}
	for i, now := range s.Status() {
		if (now.LaunchID != was[i].LaunchID) != (i < 2) || now.State != provisioner.StateReady {
			t.Errorf("%s: %+v", cfgs[i].Name(), now)
		}
	}
	wantApplied(t, s, []provisioner.ProvisionConfig{next[2], next[0], next[1]}, "r2 unchanged", "r0 unchanged", "r1 unchanged")
	if got := names(s); !slices.Equal(got, []string{"r2", "r0", "r1"}) {
		t.Errorf("Status has the order %q", got)
	}
	wantApplied(t, s, next, "r0 unchanged", "r1 unchanged", "r2 unchanged")
	// The first failure leaves the rest as it is.
	for i := range next {
		next[i] = dying(t, next[i])
	}
	wantApplied(t, s, next, "r0 failed", "r1 skipped", "r2 skipped")
}

// What is gone from the configuration is drained and stopped, what is new is started, and the rest is let alone.
func TestApplyAddsAndRemoves(t *testing.T) {
	t.Parallel()
	cfgs := fakeConfigs(t, 3, enginetest.Behavior{BusyRequests: time.Second})
	for i := range cfgs {
		cfgs[i] = briskly(cfgs[i])
		cfgs[i].Ready.Answer, cfgs[i].Drain.Timeout = "off", new(settings.Duration(20*time.Second))
	}
	s, j := superviseReady(t, cfgs[:2]...)
	was := s.Status()
	events := s.Events(bounded(t))
	leaving := s.replicas[1]
	results := inFlight(t, cfgs[1], 1, `{"prompt":"x"}`)
	// The file is edited while the replicas are waited for, by a program that ends when nothing runs any more.
	ended := make(chan error, 1)
	go func() { ended <- s.Wait(bounded(t)) }()

	fresh := cfgs[2]
	fresh.Port = cfgs[1].Port // which becomes free
	wantApplied(t, s, []provisioner.ProvisionConfig{fresh, cfgs[0]}, "r2 started", "r0 unchanged", "r1 removed")
	if r := <-results; r.Err != nil || r.Status != 200 {
		t.Errorf("the client of the removed one got %+v", r)
	}
	if rec, err := readRecord(leaving.files); err != nil || rec.State != provisioner.StateStopped || alive(rec.Process.PID) || access.Exists(leaving.files.Handoff()) {
		t.Errorf("left of the removed one: %+v (%v)", rec, err)
	}
	if _, err := os.Lstat(leaving.files.Restarts()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its restarts are remembered (%v)", err)
	}
	now := s.Status()
	if got := names(s); !slices.Equal(got, []string{"r2", "r0"}) || now[1].LaunchID != was[0].LaunchID || now[0].State != provisioner.StateReady {
		t.Errorf("%v: %+v", got, now)
	}
	told := map[string]bool{}
	for !told["r2 ready"] {
		e := <-events
		told[e.Replica+" "+string(e.State)] = true
	}
	if !told["r1 draining"] || !told["r1 stopped"] || told["r0 stopping"] {
		t.Errorf("events: %v", told)
	}
	wantNote(t, j, "it is not in the configuration any more")
	if err := s.Start(bounded(t), poolR1); !errors.Is(err, provisioner.ErrNotFound) {
		t.Errorf("Reset of the removed one: %v", err)
	}

	// All at once are others.
	wantApplied(t, s, cfgs[1:2], "r1 started", "r2 removed", "r0 removed")
	select {
	case err := <-ended:
		t.Errorf("Wait has ended, and a replica runs: %v", err)
	default:
	}
	if err := s.Stop(bounded(t), poolR1, provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Wait: %v", err)
	}
}

// A new replica that does not start is told, and tried again like any other.
func TestApplyKeepsWhatFails(t *testing.T) {
	t.Parallel()
	cfgs := fakeConfigs(t, 2, enginetest.Behavior{})
	for i := range cfgs {
		cfgs[i] = briskly(cfgs[i])
	}
	s, _ := superviseReady(t, cfgs[0])
	bad := dying(t, cfgs[1])
	results := wantApplied(t, s, []provisioner.ProvisionConfig{cfgs[0], bad}, "r0 unchanged", "r1 failed")
	wantText(t, results[1].Err, "bad new settings")
	eventually(t, "its breaker is open", func() bool { return s.Status()[1].Restarts.Phase == report.PhaseOpen })
	wantApplied(t, s, cfgs, "r0 unchanged", "r1 reloaded")
	wantApplied(t, s, cfgs[:1], "r0 unchanged", "r1 removed")

	// One that runs already, as a command has left it, is adopted.
	other := abandoned(t, cfgs[1])
	wantApplied(t, s, cfgs, "r0 unchanged", "r1 started")
	if now := s.Status()[1]; now.LaunchID != other.Status().LaunchID {
		t.Errorf("%+v", now)
	}
	reap(other) // this program is its parent
	wantApplied(t, s, cfgs[:1], "r0 unchanged", "r1 removed")

	// With other settings it is replaced.
	other = abandoned(t, cfgs[1])
	reap(other)
	cfgs[1].Flags = []string{"--ctx-size", "777"}
	wantApplied(t, s, cfgs, "r0 unchanged", "r1 started")
	if now := s.Status()[1]; now.Outdated || !slices.Contains(enginetest.Inspect(t, now.URL).Argv, "777") {
		t.Errorf("%+v", now)
	}
}

// A configuration with a mistake changes nothing.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	cfgs := fakeConfigs(t, 2, enginetest.Behavior{})
	s, _ := superviseReady(t, cfgs[0])
	was := s.Status()
	twice, elsewhere, empty := slices.Clone(cfgs), slices.Clone(cfgs), slices.Clone(cfgs)
	twice[1].Port = cfgs[0].Port
	empty[1].Model = settings.Model{}
	for i := range elsewhere {
		elsewhere[i].StateDir = t.TempDir()
		elsewhere[i].StateDir = elsewhere[0].StateDir
	}
	for want, next := range map[string][]provisioner.ProvisionConfig{
		"needs port":                         twice,
		"model":                              empty,
		"there is a fleet for each":          elsewhere,
		"no replica is configured":           nil,
		"the state directory of pool/r1 is ": {cfgs[0], elsewhere[1]},
	} {
		results, err := s.Apply(bounded(t), next)
		wantText(t, err, want)
		if len(results) > 0 || len(s.Status()) != 1 || s.Status()[0].LaunchID != was[0].LaunchID {
			t.Errorf("%s: %+v, %+v", want, results, s.Status())
		}
	}
	done, err := s.begin(bounded(t)) // another change
	if err != nil {
		t.Fatal(err)
	}
	impatient, giveUp := context.WithCancel(bounded(t))
	giveUp()
	if _, err := s.Apply(impatient, cfgs); !errors.Is(err, context.Canceled) {
		t.Errorf("while another change is under way: %v", err)
	}
	done()
}

// A replica that was stopped stays so. Its settings change all the same, and it keeps no other from changing.
func TestApplyToAStoppedReplica(t *testing.T) {
	t.Parallel()
	cfgs := fakeConfigs(t, 2, enginetest.Behavior{})
	for i := range cfgs {
		cfgs[i] = briskly(cfgs[i])
	}
	s, _ := superviseReady(t, cfgs...)
	if err := s.Stop(bounded(t), poolR0, provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range cfgs {
		cfgs[i].Flags = []string{"--ctx-size", "777"}
	}
	wantApplied(t, s, cfgs, "r0 stopped", "r1 reloaded")
	if err := s.Start(bounded(t), poolR0); err != nil {
		t.Fatal(err)
	}
	now := untilReady(t, s, "")
	if argv := enginetest.Inspect(t, now.URL).Argv; !slices.Contains(argv, "777") {
		t.Errorf("started with %q", argv)
	}
}

// A pool's ports can move by one: whoever has the port of another moves first.
func TestApplyMovesPorts(t *testing.T) {
	t.Parallel()
	port := enginetest.FreePort(t, 3)
	cfgs := fakeConfigs(t, 2, enginetest.Behavior{})
	for i := range cfgs {
		cfgs[i] = briskly(cfgs[i])
		cfgs[i].Port = port + i
	}
	s, _ := superviseReady(t, cfgs...)
	for i := range cfgs {
		cfgs[i].Port++
	}
	wantApplied(t, s, cfgs, "r0 reloaded", "r1 reloaded")
}

// A manager that ends in the middle of a change ends all of it.
func TestStopDuringApply(t *testing.T) {
	t.Parallel()
	cfgs := fakeConfigs(t, 2, enginetest.Behavior{})
	for i := range cfgs {
		cfgs[i] = briskly(cfgs[i])
		cfgs[i].Drain.Timeout = new(settings.Duration(10 * time.Minute))
	}
	held := make(chan struct{})
	hook := provisioner.WithDrainHook("held", func(ctx context.Context, _ provisioner.Handoff) error {
		close(held)
		<-ctx.Done()
		return nil
	})
	s, _ := supervised(t, cfgs[:1], hook)
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	type outcome struct {
		results []Reloaded
		err     error
	}
	applied := make(chan outcome, 1)
	go func() {
		results, err := s.Apply(context.Background(), cfgs[1:])
		applied <- outcome{results, err}
	}()
	<-held
	if err := s.KillAll(bounded(t)); err != nil && !errors.Is(err, provisioner.ErrKilled) {
		t.Errorf("Stop: %v", err)
	}
	got := <-applied
	if got.err != nil || len(got.results) != 2 || got.results[0].Result != ReloadFailed || !errors.Is(got.results[0].Err, provisioner.ErrStopped) ||
		got.results[1].Result != ReloadRemoved {
		t.Errorf("%+v", got)
	}
	if all, err := Statuses(cfgs[0].StateDir); err != nil || slices.ContainsFunc(all, func(s provisioner.Status) bool { return !s.State.Final() }) {
		t.Errorf("%+v (%v)", all, err)
	}
}

// Who waits for the first readiness does not fail over a replica that is not wanted any more.
func TestApplyWhileStarting(t *testing.T) {
	t.Parallel()
	cfgs := fakeConfigs(t, 2, enginetest.Behavior{})
	for i := range cfgs {
		cfgs[i] = briskly(cfgs[i])
	}
	cfgs[1].Provisioning.Binary = &settings.Binary{Path: enginetest.Install(t, enginetest.Behavior{LoadTime: time.Hour})}
	s, _ := supervised(t, cfgs)
	began := make(chan error, 1)
	go func() { began <- s.WaitReady(bounded(t)) }()
	eventually(t, "the other loads", func() bool { return strings.Contains(s.Status()[1].Heard, "Loading model") })
	wantApplied(t, s, cfgs[:1], "r0 unchanged", "r1 removed")
	if err := <-began; err != nil {
		t.Errorf("WaitReady: %v", err)
	}
}

// reap takes note of the end of an engine whose provisioner has been abandoned.
func reap(p *provisioner.EngineProvisioner) {
	go reaped(p.Status().PID)
}
