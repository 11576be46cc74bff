package fleet

import (
	"errors"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/report"
)

// Whoever has stopped a replica under a manager finds it stopped under the next one.
func TestWhatWasStoppedStaysStopped(t *testing.T) {
	t.Parallel()
	byHand := func(s *Fleet, cfg provisioner.ProvisionConfig) error {
		p, err := provisioner.Attach(cfg.StateDir, cfg.ID())
		if err != nil {
			return err
		}
		return p.Stop(t.Context())
	}
	for name, test := range map[string]struct {
		stop func(*Fleet, provisioner.ProvisionConfig) error
		end  func(*Fleet) error // of the first manager
	}{
		"by the program, and handed over": {
			func(s *Fleet, cfg provisioner.ProvisionConfig) error {
				return s.Stop(t.Context(), provisioner.ReplicaID{Pool: cfg.PoolID, Replica: cfg.ReplicaID}, provisioner.StopOptions{})
			},
			(*Fleet).Release,
		},
		"by a request, and stopped": {
			func(_ *Fleet, cfg provisioner.ProvisionConfig) error {
				_, err := RequestStop(t.Context(), cfg.StateDir, cfg.ID())
				return err
			},
			func(s *Fleet) error { return s.Shutdown(t.Context()) },
		},
		"by another command, and handed over": {byHand, (*Fleet).Release},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
			first, _ := superviseReady(t, cfg)
			if err := test.stop(first, cfg); err != nil {
				t.Fatal(err)
			}
			if err := test.end(first); err != nil {
				t.Fatal(err)
			}
			second, j := supervised(t, []provisioner.ProvisionConfig{cfg})
			if err := second.WaitReady(bounded(t)); err != nil {
				t.Errorf("WaitReady waits for it: %v", err)
			}
			if now := second.Status()[0]; now.Restarts.Phase != report.PhaseStopped || now.State != provisioner.StateStopped {
				t.Errorf("%+v, restarts %+v", now, now.Restarts)
			}
			wantNote(t, j, "it was stopped by pid ", "stays so until it is started (engine-provisioner start pool/r0)")
			if err := second.Start(bounded(t), poolR0); err != nil {
				t.Fatal(err)
			}
			was := untilReady(t, second, "")
			handOver(t, second)
			third, _ := superviseReady(t, cfg) // what was started again is not stopped
			if now := third.Status()[0]; now.PID != was.PID {
				t.Errorf("was %+v\nnow %+v", was, now)
			}
		})
	}
}

// A stop of all, by the manager's own end, is none of a replica; nor is one that no manager saw.
func TestWhatAManagerStopsIsStartedByTheNext(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	first, _ := superviseReady(t, cfg)
	if err := first.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	second, _ := superviseReady(t, cfg)
	handOver(t, second)
	p, err := provisioner.Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	superviseReady(t, cfg)
}

// Without a manager, a reset that names the replica lets the next one start it; a start by hand does, too.
func TestWhatEndsAHold(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	files := s.all()[0].files
	stop := func(s *Fleet) {
		t.Helper()
		if err := errors.Join(s.Stop(bounded(t), poolR0, provisioner.StopOptions{}), s.Shutdown(bounded(t))); err != nil {
			t.Fatal(err)
		}
		if !files.Held() {
			t.Fatal("it is not kept that it was stopped")
		}
	}
	stop(s)
	if _, err := RequestReset(bounded(t), cfg.StateDir); err != nil || !files.Held() {
		t.Errorf("a reset of all starts what was stopped (%v)", err)
	}
	s, _ = supervised(t, []provisioner.ProvisionConfig{cfg})
	stop(s)
	if _, err := RequestReset(bounded(t), cfg.StateDir, poolR0); err != nil || files.Held() {
		t.Errorf("a reset of it does not (%v)", err)
	}
	s, _ = superviseReady(t, cfg)
	stop(s)
	p, _ := started(t, cfg)
	if files.Held() {
		t.Error("it is stopped, and runs")
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
}
