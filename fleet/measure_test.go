package fleet

import (
	"os"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet/internal/board"
	"github.com/llama-orch/engine-provisioner/fleet/internal/restarts"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/test/client"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/usage"
)

// measured is what Statuses and Measure tell of the only replica of a state directory.
func measured(t *testing.T, m *usage.Meter, dir string) provisioner.Status {
	t.Helper()
	all, err := Statuses(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Measure(t.Context(), m, all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%d replicas", len(all))
	}
	return all[0]
}

// What an engine under load takes and does is told to another program, and to the one that has the fleet; and that there is an
// end of it.
func TestMeasure(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{BusyRequests: client.RequestTime})
	cfg.Flags = []string{"--metrics", "--parallel", "2"}
	f, err := Open(bounded(t), Options{}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Shutdown(bounded(t)) })
	if err := f.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	m, err := usage.NewMeter(cfg.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	first := measured(t, m, cfg.StateDir).Usage
	if first == nil || first.Processes < 1 || first.Memory == 0 || first.CPU != nil || first.TokenRate != nil || first.Tokens == nil ||
		first.Running == nil || *first.Running != 0 || *first.Waiting != 0 || first.GPUMemory != nil || first.Load != nil {
		t.Fatalf("%+v", first)
	}
	results := client.InFlight(t, cfg.Port, 3, `{"prompt":"a"}`)
	var busy *usage.Usage
	eventually(t, "its requests are told", func() bool {
		all := f.Status()
		if err := Measure(t.Context(), m, all); err != nil {
			t.Fatal(err)
		}
		busy = all[0].Usage
		return *busy.Running == 2 && *busy.Waiting == 1 && *busy.TokenRate > 0 && *busy.Tokens > *first.Tokens
	})
	if busy.CPU == nil || busy.CPUSeconds < first.CPUSeconds {
		t.Errorf("%+v", busy)
	}
	for range 3 {
		<-results
	}
	if err := f.Stop(bounded(t), cfg.ID(), provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := measured(t, m, cfg.StateDir); s.Usage != nil || s.State != provisioner.StateStopped {
		t.Errorf("after its end: %+v", s)
	}
}

// Who loads is told with how far it is, and asked for nothing.
func TestMeasureOfALoad(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour})
	f, err := Open(bounded(t), Options{}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.KillAll(bounded(t)) })
	m, err := usage.NewMeter(cfg.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	var s provisioner.Status
	eventually(t, "it loads", func() bool {
		if all, err := Statuses(cfg.StateDir); err != nil || len(all) == 0 { // its preparation is about to be told
			return false
		}
		s = measured(t, m, cfg.StateDir)
		return s.State == provisioner.StateStarting && s.Progress != nil && s.Progress.Done > 0
	})
	p, size := s.Progress, int64(len(enginetest.GGUF))
	if p.Step != report.StepLoad || p.What != "model.gguf" || p.Total != size || p.Done != size {
		t.Errorf("%+v", p)
	}
	if s.Usage.Running != nil || s.Usage.Tokens != nil {
		t.Errorf("%+v", s.Usage)
	}
}

// Replicas that have no record yet are told as their manager has posted them, and those of another manager are not.
func TestStatusesOfThoseThatPrepare(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m, err := provisioner.Manage(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := board.New(dir)
	b.See(provisioner.Event{Pool: "pool", Replica: "r0", Kind: provisioner.EventProgress, Progress: &report.Progress{Step: report.StepBuild, Done: 7, Total: 100}})
	if err := b.Post([]board.Entry{{ReplicaID: poolR1, Engine: "vllm", Model: "m"}, {ReplicaID: poolR0, Engine: "llamacpp"}, {ReplicaID: poolR9}}); err != nil {
		t.Fatal(err)
	}
	kept := restarts.Kept{Pool: "pool", Replica: "r1", Restarts: report.Restarts{Phase: report.PhaseBackoff, RetryAt: time.Now().Add(time.Hour), Last: "why", Advice: "what to do"}}
	if err := state.In(dir, "pool-r1").WriteRestarts(kept); err != nil {
		t.Fatal(err)
	}
	if err := state.In(dir, "pool-r9").WriteRestarts(restarts.Kept{Pool: "pool", Replica: "r9", Restarts: report.Restarts{Phase: report.PhaseStopped}}); err != nil {
		t.Fatal(err)
	}
	all, err := Statuses(dir)
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v (%v)", all, err)
	}
	if s := all[0]; s.ID() != poolR0 || s.State != provisioner.StatePreparing || s.Engine != "llamacpp" || s.Manager != os.Getpid() || s.Progress == nil || s.Progress.Done != 7 {
		t.Errorf("%+v", s)
	}
	if s := all[1]; s.ID() != poolR1 || s.State != provisioner.StateFailed || s.Engine != "vllm" || s.Model != "m" || s.Progress != nil || s.Restarts.Advice != "what to do" {
		t.Errorf("%+v", s)
	}
	if s := all[2]; s.ID() != poolR9 || s.State != provisioner.StateStopped {
		t.Errorf("%+v", s)
	}
	m.Release()
	if all, err := Statuses(dir); err != nil || len(all) != 0 {
		t.Errorf("without the manager: %+v (%v)", all, err)
	}
}
