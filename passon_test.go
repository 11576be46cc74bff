package provisioner

import (
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/settings"
)

// A stop by another program that begins while the engine is passed on leaves no handoff.
func TestStopWhilePassingOn(t *testing.T) {
	t.Parallel()
	var files state.Files
	stopping := func(o *options) {
		o.Hooks.Failpoint = func(name string) {
			if name != "before_publish" || files.Stem == "" {
				return
			}
			err := changeRecord(files, func(rec record, err error) (record, bool) {
				rec.Desired = desiredStopped
				return rec, err == nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}), stopping)
	files = p.run.files
	cfg := p.cfg
	cfg.Drain.Timeout = new(settings.Duration(7 * time.Second))
	next, err := p.passOn(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if access.Exists(files.Handoff()) {
		t.Error("there is a handoff of an engine that is being stopped")
	}
	if err := next.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
}
