package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet/internal/mailbox"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

func TestRequestReset(t *testing.T) {
	t.Parallel()
	cfg := dying(t, briskly(fakeConfig(t, enginetest.Behavior{})))
	if got, err := RequestReset(bounded(t), cfg.StateDir); err != nil || len(got) > 0 {
		t.Errorf("of nothing: %+v (%v)", got, err)
	}
	if _, err := RequestReset(bounded(t), cfg.StateDir, poolR0); err == nil {
		t.Error("what is not there was reset")
	}
	s, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	open := func() bool { return s.Status()[0].Restarts.Phase == report.PhaseOpen }
	eventually(t, "the breaker is open", open)
	before := s.Status()[0].LaunchID
	if _, err := RequestReset(bounded(t), cfg.StateDir, poolR9); err == nil {
		t.Error("a stranger was reset")
	}
	for _, names := range [][]provisioner.ReplicaID{nil, {poolR0}} {
		got, err := RequestReset(bounded(t), cfg.StateDir, names...)
		if err != nil || len(got) != 1 || got[0] != (Answer{Pool: "pool", Replica: "r0", Result: "reset"}) {
			t.Fatalf("%+v (%v)", got, err)
		}
		eventually(t, "it is tried again", func() bool { return s.Status()[0].LaunchID != before && open() })
		before = s.Status()[0].LaunchID
	}
	got, err := RequestStop(bounded(t), cfg.StateDir, poolR0)
	if err != nil || len(got) != 1 || got[0].Result != "stopped" || s.Status()[0].Restarts.Phase != report.PhaseStopped {
		t.Errorf("the stop of a replica that waits: %+v (%v), %+v", got, err, s.Status()[0].Restarts)
	}
	if got, err := RequestReset(bounded(t), cfg.StateDir); err != nil || len(got) != 0 {
		t.Errorf("what was stopped is started again: %+v (%v)", got, err)
	}
	if _, err := RequestReset(bounded(t), cfg.StateDir, poolR0); err != nil {
		t.Error(err)
	}
	eventually(t, "it is tried again", func() bool { return s.Status()[0].LaunchID != before && open() })
	_, err = RequestReload(bounded(t), cfg.StateDir, "")
	wantText(t, err, "this manager has no configuration to read again")

	// Without a manager it is done at once, for the next one.
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := RequestReset(bounded(t), cfg.StateDir, poolR9); !errors.Is(err, provisioner.ErrNotFound) {
		t.Errorf("of a stranger: %v", err)
	}
	for range 2 { // the second time there are no failures to forget
		if got, err := RequestReset(bounded(t), cfg.StateDir, poolR0); err != nil || len(got) != 1 || got[0].Result != ResultForgotten {
			t.Errorf("%+v (%v)", got, err)
		}
	}
	slow := cfg // it adds no failures of its own
	slow.Provisioning.Binary = &settings.Binary{Path: enginetest.Install(t, enginetest.Behavior{LoadTime: time.Hour})}
	next, _ := supervised(t, []provisioner.ProvisionConfig{slow})
	if past := next.Status()[0].Restarts; past.Phase == report.PhaseOpen || past.Failures > 2 {
		t.Errorf("the next manager remembers %+v", past)
	}
}

func TestRequestReload(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	if _, err := RequestReload(bounded(t), cfg.StateDir, ""); !errors.Is(err, ErrNotManaged) {
		t.Errorf("without a manager: %v", err)
	}
	present := cfg
	var broken error
	file := filepath.Join(t.TempDir(), "pools.yaml")
	alias := filepath.Join(filepath.Dir(file), "alias.yaml")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(file, alias)); err != nil {
		t.Fatal(err)
	}
	s, _ := supervisedWith(t, []provisioner.ProvisionConfig{cfg}, Options{ConfigFile: file, Configs: func() ([]provisioner.ProvisionConfig, error) {
		return []provisioner.ProvisionConfig{present}, broken
	}})
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  provisioner.ProvisionConfig
		err  error
		want ReloadResult
		told string
	}{
		{cfg: cfg, want: ReloadUnchanged},
		{cfg: dying(t, cfg), want: ReloadFailed, told: "the old settings are back"},
		{cfg: func() provisioner.ProvisionConfig { c := cfg; c.Flags = []string{"--ctx-size", "777"}; return c }(), want: ReloadDone},
		{cfg: cfg, err: errors.New("line 3 is wrong"), told: "line 3 is wrong"},
	} {
		present, broken = c.cfg, c.err
		got, err := RequestReload(bounded(t), cfg.StateDir, "")
		if c.want == "" {
			wantText(t, err, c.told)
			continue
		}
		if err != nil || len(got) != 1 || got[0].Result != string(c.want) {
			t.Fatalf("%+v (%v), want %s", got, err, c.want)
		}
		if c.told != "" {
			wantText(t, errors.New(got[0].Error), c.told)
		}
	}
	present, broken = cfg, nil
	if _, err := RequestReload(bounded(t), cfg.StateDir, alias); err != nil {
		t.Errorf("of the same file by another name: %v", err)
	}
	_, err := RequestReload(bounded(t), cfg.StateDir, filepath.Join(filepath.Dir(file), "other.yaml"))
	wantText(t, err, "the manager reads \""+file+"\", and not ")
	eventually(t, "nothing is left of the requests", func() bool { // the question goes after the answer is there
		left, err := os.ReadDir(filepath.Join(cfg.StateDir, state.RequestsName))
		return err == nil && len(left) == 0
	})
}

// Who asks for a start or another start is answered when the engine is ready, or has failed.
func TestRequestStartAndRestart(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	for _, ask := range []func(context.Context, string, ...provisioner.ReplicaID) ([]Answer, error){RequestStart, RequestRestart} {
		if _, err := ask(bounded(t), cfg.StateDir); !errors.Is(err, ErrNotManaged) {
			t.Errorf("without a manager: %v", err)
		}
	}
	s, _ := superviseReady(t, cfg)
	before := s.Status()[0].LaunchID
	got, err := RequestRestart(bounded(t), cfg.StateDir)
	after := s.Status()[0]
	if err != nil || len(got) != 1 || got[0].Result != ResultRestarted || after.LaunchID == before || after.State != provisioner.StateReady {
		t.Errorf("the restart: %+v (%v), %+v", got, err, after)
	}
	if err := s.Stop(bounded(t), poolR0, provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := RequestRestart(bounded(t), cfg.StateDir); err != nil || len(got) != 0 {
		t.Errorf("what was stopped is restarted: %+v (%v)", got, err)
	}
	for range 2 { // one that runs goes on
		got, err = RequestStart(bounded(t), cfg.StateDir)
		if err != nil || len(got) != 1 || got[0].Result != ResultReady || s.Status()[0].State != provisioner.StateReady {
			t.Errorf("the start: %+v (%v), %+v", got, err, s.Status()[0])
		}
	}
	if _, err := RequestStart(bounded(t), cfg.StateDir, poolR9); err == nil {
		t.Error("a stranger was started")
	}
}

// Whoever asks and is interrupted fetches no answer. A manager that runs for months does not gather them.
func TestAnswersThatNobodyFetches(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	superviseReady(t, cfg)
	answer := func(id string, age time.Duration) string {
		path := filepath.Join(cfg.StateDir, state.RequestsName, id+mailbox.AnswerExt)
		then := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, []byte("{}"), 0o600), os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fresh, old := answer("a", mailbox.AnswerPatience/2), answer("b", 2*mailbox.AnswerPatience)
	eventually(t, "the old one is removed", func() bool { return !access.Exists(old) })
	if !access.Exists(fresh) {
		t.Error("the fresh one is removed")
	}
}

func TestStopReplica(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	was := s.Status()[0]
	for range 2 {
		if err := s.Stop(bounded(t), poolR0, provisioner.StopOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if now := s.Status()[0]; now.State != provisioner.StateStopped || now.Restarts.Phase != report.PhaseStopped {
		t.Errorf("%+v", now)
	}
	if err := s.Start(bounded(t), poolR0); err != nil {
		t.Fatal(err)
	}
	untilReady(t, s, was.LaunchID)
	if err := s.Stop(bounded(t), poolR9, provisioner.StopOptions{}); !errors.Is(err, provisioner.ErrNotFound) {
		t.Errorf("of a stranger: %v", err)
	}
}

// What nobody waits for any more, or nobody understands, does no harm.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	gone, cancel := context.WithCancel(bounded(t))
	cancel()
	if _, err := RequestReset(gone, cfg.StateDir); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	_, err := request{Kind: "dance"}.put(bounded(t), s.replicas[0].files.State)
	wantText(t, err, `this manager knows no request "dance"`)
	stem := filepath.Join(cfg.StateDir, state.RequestsName, "planted")
	if err := os.Symlink(cfg.Model.ID, stem+mailbox.QuestionExt); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a link is refused", func() bool { return access.Exists(stem + mailbox.AnswerExt) })
	var all answers
	data, err := os.ReadFile(stem + mailbox.AnswerExt)
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil || all.Error == "" {
		t.Errorf("%s (%v)", data, err)
	}
}

// TestStatusesOfSupervised proves that any other program sees what a manager is about to do.
func TestStatusesOfSupervised(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	replica := func(id string, b enginetest.Behavior) provisioner.ProvisionConfig {
		cfg := briskly(fakeConfig(t, b))
		cfg.ReplicaID, cfg.StateDir = id, dir
		return cfg
	}
	waiting := dying(t, replica("backoff", enginetest.Behavior{}))
	waiting.Restart.InitialDelay, waiting.Restart.MaxDelay = settings.Duration(time.Hour), settings.Duration(time.Hour)
	open := dying(t, replica("open", enginetest.Behavior{}))
	open.Restart.StartBurst = 1
	lost := replica("lost", enginetest.Behavior{})
	if err := os.Remove(lost.Model.ID); err != nil {
		t.Fatal(err)
	}
	fine := replica("fine", enginetest.Behavior{})
	old := replica("old", enginetest.Behavior{})
	abandoned(t, old)
	old.Flags = []string{"--ctx-size", "777"}
	s, _ := supervised(t, []provisioner.ProvisionConfig{waiting, open, lost, fine, old})
	want := "backoff failed backoff false\nfine ready running false\nlost failed failed false\nold ready running true\nopen failed open false\n"
	var got string
	table := func() string {
		all, err := Statuses(dir)
		if err != nil {
			t.Fatal(err)
		}
		got = ""
		for _, s := range all {
			phase := report.Phase("-")
			if s.Restarts != nil {
				phase = s.Restarts.Phase
				if policy.Waits(*s.Restarts) == s.Restarts.RetryAt.IsZero() {
					t.Errorf("%s: the next try is at %s", s.Replica, s.Restarts.RetryAt)
				}
			}
			got += fmt.Sprintln(s.Replica, s.State, phase, s.Outdated)
		}
		return got
	}
	defer func() {
		if t.Failed() {
			t.Logf("got\n%swant\n%s", got, want)
		}
	}()
	eventually(t, "all are told", func() bool { return table() == want })
	if differs, err := node.Differences(bounded(t), old); len(differs) == 0 || err != nil {
		t.Errorf("differences %v (%v)", differs, err)
	}
	if differs, err := node.Differences(bounded(t), fine); len(differs) > 0 || err != nil {
		t.Errorf("differences %v (%v)", differs, err)
	}
	if _, err := node.Differences(bounded(t), lost); err == nil {
		t.Error("a replica without a model could be compared")
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	want = "backoff failed - false\nfine ready - false\nold ready - false\nopen failed - false\n"
	if table() != want {
		t.Error("without a manager nothing is about to be done")
	}
	for _, id := range []string{"fine", "old"} {
		p, err := provisioner.Attach(dir, provisioner.ReplicaID{Pool: "pool", Replica: id})
		if err == nil {
			err = p.Stop(bounded(t))
		}
		if err != nil {
			t.Error(err)
		}
	}
}
