package fleet

import (
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
)

// The example runs with the real engine: one after the other, and back.
func TestExampleOfNeeds(t *testing.T) {
	t.Parallel()
	config, err := provisioner.LoadConfig("../examples/needs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfgs, err := config.Replicas("")
	if err != nil {
		t.Fatal(err)
	}
	as, port := realConfig(t, tiny), enginetest.FreePort(t, 2)
	for i := range cfgs {
		cfgs[i].StateDir, cfgs[i].Port, cfgs[i].Model, cfgs[i].Provisioning, cfgs[i].GPU = as.StateDir, port+i, as.Model, as.Provisioning, engine.GPUNone
	}
	s, j := supervised(t, cfgs)
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if told := j.of(provisioner.EventState); !before(told, "embed ready", "chat preparing") {
		t.Errorf("%q", told)
	}
	was := s.Status()
	if err := s.Restart(bounded(t), cfgs[1].ID(), provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if now := s.Status(); now[0].LaunchID != was[0].LaunchID || now[0].State != provisioner.StateReady || now[1].LaunchID == was[1].LaunchID {
		t.Errorf("after the loss, which is ignored: %+v", now)
	}
	ended := time.Now()
	if err := s.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	at := map[string]time.Time{}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		if e.Kind == provisioner.EventState && e.Time.After(ended) {
			at[e.Pool+" "+string(e.State)] = e.Time
		}
	}
	if at["chat stopped"].IsZero() || at["embed stopping"].Before(at["chat stopped"]) {
		t.Errorf("the order of the end: %v", at)
	}
}
