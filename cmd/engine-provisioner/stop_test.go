package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// An engine that dies while it is about to be stopped is not started again by the run that looks after it.
func TestStopOfACrashedEngine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	model := filepath.Join(dir, "model.gguf")
	if err := os.WriteFile(model, []byte(enginetest.GGUF), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := fleet.Open(ctx, fleet.Options{Launch: []provisioner.Option{provisioner.WithCacheDir(t.TempDir())}}, provisioner.ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir, Engine: "llamacpp",
		Port: enginetest.FreePort(t, 1), Model: settings.Model{ID: model}, GPU: engine.GPUNone,
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: enginetest.Install(t, enginetest.Behavior{})}},
		Restart:      settings.Restart{InitialDelay: settings.Duration(time.Hour)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	was := s.Status()[0]
	p, err := provisioner.Attach(filepath.Join(dir, "state"), provisioner.ReplicaID{Pool: "pool", Replica: "r0"})
	if err != nil {
		t.Fatal(err)
	}
	enginetest.Kill(t, was.URL, enginetest.Death{Code: 1})
	for s.Status()[0].Restarts.Phase != report.PhaseBackoff && ctx.Err() == nil {
		time.Sleep(2 * time.Millisecond)
	}
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := stopCrashed(ctx, filepath.Join(dir, "state"), was); err != nil {
		t.Errorf("stop: %v", err)
	}
	if now := s.Status()[0]; now.Restarts.Phase != report.PhaseStopped {
		t.Errorf("it is started again: %+v", now.Restarts)
	}
}
