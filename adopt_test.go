package provisioner

import (
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/proc"
)

// How long an adopted load has taken does not depend on who has set the clock meanwhile.
func TestAdoptedLoadIgnoresTheClock(t *testing.T) {
	t.Parallel()
	p, _ := started(t, fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour}))
	now := time.Now()
	for _, said := range []time.Time{now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)} {
		rec := p.run.rec
		rec.StartedAt = said
		if age := now.Sub(rec.begun(now)); age < 0 || age > patience {
			t.Errorf("a load that says that it began at %s is %s old", said, age)
		}
		rec.Process = proc.ID{}
		if age := now.Sub(rec.begun(now)); age < 0 {
			t.Errorf("a load begins in the future (%s)", age)
		}
	}
}

// A comparison is good for the launch that was compared alone: another one goes on as it was.
func TestUpdateTakesItsOwnComparison(t *testing.T) {
	t.Parallel()
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}))
	if _, err := p.Update(Comparison{}); err == nil || !strings.Contains(err.Error(), "they were compared with another launch") {
		t.Errorf("%v", err)
	}
	if !p.Running() || p.Status().State != StateReady {
		t.Errorf("%+v", p.Status())
	}
}
