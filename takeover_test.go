package provisioner

import (
	"errors"
	"slices"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// An adopted engine that does not meet "gpu: required" serves on, outdated, and is not told as ready.
func TestAdoptedWithoutTheRequiredGPU(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	driver := &fakeGPUs{err: errNone}
	cfg.GPU = GPUOptional
	first, _ := supervised(t, []ProvisionConfig{cfg}, withGPUs(driver))
	if err := first.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	was := first.Status()[0]
	handOver(t, first)
	cfg.GPU = GPURequired
	second, j := supervised(t, []ProvisionConfig{cfg}, withGPUs(driver))
	err := second.WaitReady(bounded(t))
	if gpu := (*GPUError)(nil); !errors.As(err, &gpu) {
		t.Errorf("WaitReady: %v", err)
	}
	wantText(t, err, `the adopted engine does not meet "gpu: required": it was started without one`)
	now := second.Status()[0]
	want := Difference{Key: "gpu", Why: "it runs without a GPU", Was: "optional", Now: "required"}
	if now.PID != was.PID || now.State != StateReady || !now.Outdated || !slices.Contains(now.Differs, want) {
		t.Errorf("%+v", now)
	}
	if got := j.recoveries(); len(got) != 1 || got[0].Err == nil {
		t.Errorf("recoveries %+v", got)
	}
	if results, err := second.Apply(bounded(t), []ProvisionConfig{cfg}); err != nil || results[0].Result != ReloadFailed {
		t.Errorf("Apply: %+v (%v)", results, err)
	}
	if again := second.Status()[0]; again.PID != was.PID || again.State != StateReady {
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
			driver := &fakeGPUs{gpus: []GPU{gpu0}}
			cfg.GPU = GPUOptional
			first, _ := supervised(t, []ProvisionConfig{cfg}, withGPUs(driver))
			if err := first.WaitReady(bounded(t)); err != nil {
				t.Fatal(err)
			}
			was := first.Status()[0]
			handOver(t, first)
			cfg.GPU = GPURequired
			asked := &fakeGPUs{gpus: []GPU{gpu0}, memory: map[int]uint64{1: 1, was.PID: used}}
			second, _ := supervised(t, []ProvisionConfig{cfg}, withGPUs(asked))
			if err := second.WaitReady(bounded(t)); (err == nil) != (used > 0) {
				t.Errorf("WaitReady: %v", err)
			}
			now := second.Status()[0]
			lacks := slices.ContainsFunc(now.Differs, func(d Difference) bool { return d.Key == "gpu" })
			if now.PID != was.PID || lacks != (used == 0) {
				t.Errorf("%+v", now)
			}
		})
	}
}
