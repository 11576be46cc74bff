package fleet

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// An adopted engine that does not meet "gpu: required" serves on, outdated, and is not told as ready.
func TestAdoptedWithoutTheRequiredGPU(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	driver := &fakeGPUs{err: errNone}
	cfg.GPU = engine.GPUOptional
	first, _ := supervised(t, []provisioner.ProvisionConfig{cfg}, withGPUs(driver))
	if err := first.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	was := first.Status()[0]
	handOver(t, first)
	cfg.GPU = engine.GPURequired
	second, j := supervised(t, []provisioner.ProvisionConfig{cfg}, withGPUs(driver))
	err := second.WaitReady(bounded(t))
	if gpu := (*provisioner.GPUError)(nil); !errors.As(err, &gpu) {
		t.Errorf("WaitReady: %v", err)
	}
	wantText(t, err, `the adopted engine does not meet "gpu: required": it was started without one`)
	now := second.Status()[0]
	want := report.Difference{Key: "gpu", Why: "it runs without a GPU", Was: "optional", Now: "required"}
	if now.PID != was.PID || now.State != provisioner.StateReady || !now.Outdated || !slices.Contains(now.Differs, want) {
		t.Errorf("%+v", now)
	}
	if got := j.recoveries(); len(got) != 1 || got[0].Err == nil {
		t.Errorf("recoveries %+v", got)
	}
	if results, err := second.Apply(bounded(t), []provisioner.ProvisionConfig{cfg}); err != nil || results[0].Result != ReloadFailed {
		t.Errorf("Apply: %+v (%v)", results, err)
	}
	if again := second.Status()[0]; again.PID != was.PID || again.State != provisioner.StateReady {
		t.Errorf("after a reload that cannot be: %+v", again)
	}
}

// One that was given a GPU owes the proof: it is asked for that when it is adopted.
func TestAdoptedOnAGPUIsProven(t *testing.T) {
	t.Parallel()
	for name, used := range map[string]uint64{"it uses the GPU": 1 << 30, "it does not": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
			driver := &fakeGPUs{gpus: []engine.GPU{gpu0}}
			cfg.GPU = engine.GPUOptional
			first, _ := supervised(t, []provisioner.ProvisionConfig{cfg}, withGPUs(driver))
			if err := first.WaitReady(bounded(t)); err != nil {
				t.Fatal(err)
			}
			was := first.Status()[0]
			handOver(t, first)
			cfg.GPU = engine.GPURequired
			asked := &fakeGPUs{gpus: []engine.GPU{gpu0}, memory: map[int]uint64{1: 1, was.PID: used}}
			second, _ := supervised(t, []provisioner.ProvisionConfig{cfg}, withGPUs(asked))
			if err := second.WaitReady(bounded(t)); (err == nil) != (used > 0) {
				t.Errorf("WaitReady: %v", err)
			}
			now := second.Status()[0]
			lacks := slices.ContainsFunc(now.Differs, func(d report.Difference) bool { return d.Key == "gpu" })
			if now.PID != was.PID || lacks != (used == 0) {
				t.Errorf("%+v", now)
			}
		})
	}
}

// A manager that knew less of proofs may have taken an engine on the CPU for one on the GPU: the next one looks again. What only
// cannot be seen any more, as a log that was cut or a driver that tells nothing, is no doubt.
func TestAdoptedAsRequiredIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	const proof = "load_tensors:        CUDA0 model buffer size =    92.10 MiB\n"
	for name, test := range map[string]struct {
		log    string // instead of what was proven
		memory func(pid int) map[int]uint64
		err    error
		lacks  string
	}{
		"its weights lie in main memory": {
			log:   "load_tensors: offloaded 31/31 layers to GPU\nload_tensors:   CPU_Mapped model buffer size =    92.10 MiB\n",
			lacks: "the engine put no weights on a GPU",
		},
		"the driver knows others alone": {memory: func(int) map[int]uint64 { return map[int]uint64{1: 1 << 30} }, lacks: "none of its processes holds GPU memory"},
		"the log was cut":               {memory: func(pid int) map[int]uint64 { return map[int]uint64{1: 1 << 30, pid: 1 << 30} }},
		"the driver lists nobody":       {},
		"the driver fails":              {err: errNone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := briskly(fakeConfig(t, enginetest.Behavior{LogText: proof}))
			cfg.GPU = engine.GPURequired
			first, _ := supervised(t, []provisioner.ProvisionConfig{cfg}, withGPUs(&fakeGPUs{gpus: []engine.GPU{gpu0}}))
			if err := first.WaitReady(bounded(t)); err != nil {
				t.Fatal(err)
			}
			was := first.Status()[0]
			handOver(t, first)
			if err := os.WriteFile(was.Log, []byte(test.log), 0o600); err != nil {
				t.Fatal(err)
			}
			driver := &fakeGPUs{gpus: []engine.GPU{gpu0}, err: test.err}
			if test.memory != nil {
				driver.memory = test.memory(was.PID)
			}
			second, _ := supervised(t, []provisioner.ProvisionConfig{cfg}, withGPUs(driver))
			err := second.WaitReady(bounded(t))
			now := second.Status()[0]
			if now.PID != was.PID || now.State != provisioner.StateReady {
				t.Errorf("it does not serve on: %+v", now)
			}
			if _, lacks := errors.AsType[*provisioner.GPUError](err); lacks != (test.lacks != "") || err != nil && !lacks || now.Outdated && !lacks && test.err == nil {
				t.Errorf("WaitReady: %v; %+v", err, now.Differs)
			}
			if test.lacks == "" {
				return
			}
			wantText(t, err, test.lacks)
			want := report.Difference{Key: "gpu", Why: "it does not use the GPU", Was: "required", Now: "required"}
			if !slices.Contains(now.Differs, want) {
				t.Errorf("it differs by %+v", now.Differs)
			}
		})
	}
}

// What the file says to the provisioner alone may have changed while no manager was there, and an earlier version did not
// know what to ask the engine. The record is written for that alone.
func TestAdoptedUnderNewSettings(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	first, _ := superviseReady(t, cfg)
	was := first.Status()[0]
	files := first.replicas[0].files
	handOver(t, first)
	earlier, err := readRecord(files)
	if err != nil || earlier.Launch.Spec.Counters == nil {
		t.Fatal(earlier.Launch.Spec.Counters, err)
	}
	rewrite(t, files, func(_, launch map[string]any) { // of an earlier version
		delete(launch, "footprint")
		launch["flags"] = nil
		delete(launch["spec"].(map[string]any), "Counters")
	})
	cfg.Stop.Grace, cfg.Logs.Keep, cfg.Drain.Timeout = settings.Duration(11*time.Second), 2, new(settings.Duration(7*time.Second))
	second, _ := superviseReady(t, cfg)
	rec, err := readRecord(files)
	if err != nil || rec.Grace != cfg.Stop.Grace || rec.Logs.Keep != 2 || *rec.Drain.Timeout != *cfg.Drain.Timeout {
		t.Errorf("record %+v (%v)", rec, err)
	}
	if rec.Launch.Footprint.Empty() || rec.Launch.Flags == nil || rec.Launch.Spec.Counters == nil {
		t.Errorf("of the launch it tells %+v", rec.Launch)
	}
	if h, err := provisioner.ReadHandoff(files.Handoff()); err != nil || h.SlotsTotal != 1 {
		t.Errorf("handoff %+v (%v)", h, err)
	}
	if now := second.Status()[0]; now.PID != was.PID || now.LaunchID != was.LaunchID || now.Outdated || now.State != provisioner.StateReady {
		t.Errorf("%+v, was %+v", now, was)
	}
	wantApplied(t, second, []provisioner.ProvisionConfig{cfg}, "r0 unchanged")
	before, err := os.Lstat(files.Record())
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Release(); err != nil {
		t.Fatal(err)
	}
	third, _ := superviseReady(t, cfg)
	if after, err := os.Lstat(files.Record()); err != nil || !os.SameFile(after, before) || !after.ModTime().Equal(before.ModTime()) || third.Status()[0].PID != was.PID {
		t.Errorf("a record that says what is so was written again (%v)", err)
	}
}
