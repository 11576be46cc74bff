package provisioner

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// Whatever step it is, nothing is left behind.
func TestAMistakeLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"before_start", "after_record", "after_fork", "after_running_record", "before_publish", "after_publish"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			p, _ := newLaunch(t, cfg)
			p.opts.Hooks.Failpoint = func(name string) {
				if name == step {
					panic("a mistake at " + step)
				}
			}
			err := p.Start(bounded(t))
			if err == nil {
				_, err = p.WaitReady(bounded(t))
			}
			wantText(t, err, "internal error: a mistake at "+step)
			_ = p.Stop(bounded(t))
			awaitDone(t, p)
			again, _ := ready(t, cfg)
			if err := again.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
			nothingLeft(t, again)
		})
	}
}

func TestTheWatchGoesOn(t *testing.T) {
	t.Parallel()
	p, j := newLaunch(t, fakeConfig(t, enginetest.Behavior{}))
	rounds := 0
	p.keepWatch(context.Background(), time.Millisecond, func() {
		if rounds++; rounds < 3 {
			panic("a mistake")
		}
	})
	if rounds != 3 || !strings.Contains(j.notes(), "the watch over the engine failed, and goes on: internal error: a mistake") {
		t.Errorf("%d rounds: %s", rounds, j.notes())
	}
}
