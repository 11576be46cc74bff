package fleet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

func TestReloadComesBack(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	bad := cfg
	bad.Provisioning.Binary = &settings.Binary{Path: enginetest.Install(t, enginetest.Behavior{
		LoadTime: time.Hour, DieLoading: &enginetest.Death{Code: 1, Stderr: "bad new settings\n"},
	})}
	err := s.Reload(bounded(t), bad)
	wantText(t, err, "cannot reload pool/r0, the old settings are back", "bad new settings")
	now := s.Status()[0]
	if now.State != provisioner.StateReady || now.Restarts.Attempts != 0 {
		t.Errorf("%+v, restarts %+v", now, now.Restarts)
	}
	// What can be found out without a stop costs nobody a request.
	launch := now.LaunchID
	bad.Model.ID = "absent.gguf"
	wantText(t, s.Reload(bounded(t), bad), "cannot reload pool/r0, nothing was changed", "absent.gguf")
	if now := s.Status()[0]; now.LaunchID != launch || now.State != provisioner.StateReady {
		t.Errorf("%+v", now)
	}
	if err := s.Reload(bounded(t), provisioner.ProvisionConfig{PoolID: "pool", ReplicaID: "r0"}); err == nil {
		t.Error("a configuration without anything was taken")
	}
}

// dying is cfg with an engine that dies while it loads.
func dying(t *testing.T, cfg provisioner.ProvisionConfig) provisioner.ProvisionConfig {
	t.Helper()
	cfg.Provisioning.Binary = &settings.Binary{Path: enginetest.Install(t, enginetest.Behavior{
		LoadTime: time.Hour, DieLoading: &enginetest.Death{Code: 1, Stderr: "bad new settings\n"},
	})}
	return cfg
}

// Settings that were never ready are nothing to come back to, whoever gave up waiting for them.
func TestReloadComesBackToWhatWasReady(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	cfg.Flags = []string{"--ctx-size", "777"}
	s, _ := superviseReady(t, cfg)
	slow := cfg
	slow.Provisioning.Binary = &settings.Binary{Path: enginetest.Install(t, enginetest.Behavior{LoadTime: time.Hour})}
	slow.Flags = []string{"--ctx-size", "888"}
	impatient, giveUp := context.WithCancel(context.Background())
	first := make(chan error, 1)
	was := s.Status()[0].LaunchID
	go func() { first <- s.Reload(impatient, slow) }()
	eventually(t, "the slow settings load", func() bool {
		now := s.Status()[0]
		return now.State == provisioner.StateStarting && now.LaunchID != was
	})
	giveUp()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first caller got %v", err)
	}
	wantText(t, s.Reload(bounded(t), dying(t, cfg)), "the old settings are back", "bad new settings")
	now := s.Status()[0]
	if now.State != provisioner.StateReady || !slices.Contains(enginetest.Inspect(t, now.URL).Argv, "777") {
		t.Errorf("what came back was never ready: %+v", now)
	}
}

// What is got ready for a reload can take hours of download. The end of the manager does not wait for it.
func TestStopCallsOffARehearsal(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	hanging := cfg
	hanging.Provisioning.Binary = &settings.Binary{}
	script(t, &hanging, "exec cat '"+pipe+"'") // its version is never said
	s, _ := supervisedWith(t, []provisioner.ProvisionConfig{cfg}, Options{Configs: func() ([]provisioner.ProvisionConfig, error) {
		return []provisioner.ProvisionConfig{hanging}, nil
	}})
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		got, err := RequestReload(bounded(t), cfg.StateDir, "")
		if len(got) == 1 {
			err = errors.New(got[0].Error)
		}
		answered <- err
	}()
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // returns when the script reads
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := s.Shutdown(bounded(t)); err != nil {
		t.Error(err)
	}
	wantText(t, await(t, answered), "cannot reload pool/r0, nothing was changed: stopped")
}

func TestReloadWithoutAWayBack(t *testing.T) {
	t.Parallel()
	cfg := dying(t, briskly(fakeConfig(t, enginetest.Behavior{})))
	s, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	if err := s.WaitReady(bounded(t)); err == nil {
		t.Fatal("ready")
	}
	wantText(t, s.Reload(bounded(t), dying(t, cfg)), "no other settings were ready before", "bad new settings")
	good := cfg
	good.Provisioning.Binary = &settings.Binary{Path: enginetest.Install(t, enginetest.Behavior{})}
	if err := s.Reload(bounded(t), good); err != nil {
		t.Error(err)
	}
}

// A kill does not wait for the drain of a reload that is under way, and is not left out.
func TestKillHurriesAReload(t *testing.T) {
	t.Parallel()
	for what, kill := range map[string]func(*Fleet, context.Context) error{
		"all": (*Fleet).KillAll,
		"one replica": func(s *Fleet, ctx context.Context) error {
			return s.Kill(ctx, poolR0)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
			cfg.Drain.Timeout = new(settings.Duration(10 * time.Minute))
			held := make(chan struct{})
			hook := provisioner.WithDrainHook("held", func(ctx context.Context, _ provisioner.Handoff) error {
				close(held)
				<-ctx.Done()
				return nil
			})
			s, _ := supervised(t, []provisioner.ProvisionConfig{cfg}, hook)
			if err := s.WaitReady(bounded(t)); err != nil {
				t.Fatal(err)
			}
			next := cfg
			next.Flags = []string{"--ctx-size", "777"}
			reloaded := make(chan error, 1)
			go func() { reloaded <- s.Reload(context.Background(), next) }()
			<-held
			began := time.Now()
			_ = kill(s, context.Background())
			if took := time.Since(began); took > patience {
				t.Errorf("the stop took %s", took)
			}
			if now := s.Status()[0]; now.Restarts.Phase != report.PhaseStopped {
				t.Errorf("%+v", now.Restarts)
			}
			if err := <-reloaded; !errors.Is(err, provisioner.ErrStopped) {
				t.Errorf("Reload: %v", err)
			}
		})
	}
}
