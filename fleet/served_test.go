package fleet

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// driverAway is a driver that can go away, as while it is replaced, and come back.
type driverAway struct {
	stubGPUs
	away atomic.Bool
}

func (d *driverAway) GPUs() ([]gpu.Device, error) {
	if d.away.Load() {
		return nil, errNone
	}
	return d.stubGPUs.GPUs()
}

func (d *driverAway) Processes(pids []int) ([]gpu.Holding, error) {
	if d.away.Load() {
		return nil, errNone
	}
	return d.stubGPUs.Processes(pids)
}

// tirelessly is briskly without a breaker.
func tirelessly(cfg provisioner.ProvisionConfig) provisioner.ProvisionConfig {
	cfg = briskly(cfg)
	cfg.Restart.StartBurst = 1000
	return cfg
}

// What was ready with its settings is tried again, whatever goes away under it, and serves when that is back.
func TestServedComesBack(t *testing.T) {
	t.Parallel()
	driver := &driverAway{stubGPUs: stubGPUs{gpus: []engine.GPU{gpu0}}}
	var model, key, exe string // of the case that runs
	move := func(path *string) (away, back func() error) {
		return func() error { return os.Rename(*path, *path+".away") }, func() error { return os.Rename(*path+".away", *path) }
	}
	exeAway, exeBack := move(&exe)
	modelAway, modelBack := move(&model)
	keyAway, keyBack := move(&key)
	write := func(path *string, text string) func() error {
		return func() error { return os.WriteFile(*path, []byte(text), 0o600) }
	}
	for _, c := range []struct {
		name       string
		away, back func() error
	}{
		{"the model is gone", modelAway, modelBack},
		{"the model is being written", write(&model, ""), write(&model, enginetest.GGUF)},
		{"the model is half", write(&model, enginetest.GGUF[:len(enginetest.GGUF)/2]), write(&model, enginetest.GGUF)},
		{"the executable is replaced", exeAway, exeBack},
		{"the executable cannot run", func() error { return os.Chmod(exe, 0o600) }, func() error { return os.Chmod(exe, 0o700) }},
		{"the key is gone", keyAway, keyBack},
		{
			"the driver reloads",
			func() error { driver.away.Store(true); return nil }, func() error { driver.away.Store(false); return nil },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := tirelessly(fakeConfig(t, enginetest.Behavior{LogText: "load_tensors: offloaded 33/33 layers to GPU\n"}))
			model, exe, key = cfg.Model.ID, cfg.Provisioning.Binary.Path, filepath.Join(cfg.Dir, "key")
			if err := write(&key, "a-key-that-nobody-knows")(); err != nil {
				t.Fatal(err)
			}
			cfg.GPU, cfg.APIKey = engine.GPURequired, &settings.SecretRef{FromFile: key}
			s, _ := supervised(t, []provisioner.ProvisionConfig{cfg}, withGPUs(driver))
			if err := s.WaitReady(bounded(t)); err != nil {
				t.Fatal(err)
			}
			was := s.Status()[0]
			if err := c.away(); err != nil {
				t.Fatal(err)
			}
			enginetest.Kill(t, was.URL, enginetest.Death{Code: 1})
			eventually(t, "several starts have failed", func() bool { return s.Status()[0].Restarts.Failures > 3 })
			if r := s.Status()[0].Restarts; !r.Served || r.Phase == report.PhaseFailed || r.Hindered > 0 {
				t.Errorf("restarts %+v", r)
			}
			if err := c.back(); err != nil {
				t.Fatal(err)
			}
			untilReady(t, s, was.LaunchID)
		})
	}
}

// That it was ready is known to the next manager, and after a reset; it is known of these settings alone.
func TestServedIsKept(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	first, _ := superviseReady(t, cfg)
	if err := first.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(cfg.Model.ID); err != nil {
		t.Fatal(err)
	}
	wantPhase := func(cfg provisioner.ProvisionConfig, phase report.Phase, served bool) {
		t.Helper()
		s, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
		var missing *provisioner.StartError
		if err := s.WaitReady(bounded(t)); !errors.As(err, &missing) || missing.Cause != engine.CauseModelMissing {
			t.Errorf("%v", err)
		}
		eventually(t, "it is "+string(phase), func() bool { return s.Status()[0].Restarts.Phase == phase })
		if r := s.Status()[0].Restarts; r.Served != served {
			t.Errorf("restarts %+v", r)
		}
		if err := s.Shutdown(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Restart.StartBurst, cfg.Drain.Timeout = 2, new(settings.Duration(time.Second)) // the provisioner's matter
	wantPhase(cfg, report.PhaseOpen, true)
	if _, err := RequestReset(bounded(t), cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	wantPhase(cfg, report.PhaseOpen, true)
	other := cfg
	other.Flags = []string{"--ctx-size", "777"}
	wantPhase(other, report.PhaseFailed, false)
}
