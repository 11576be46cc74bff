package provisioner

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/caught"
)

// lockedBuffer is a log that goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// faulty is an engine with a mistake.
type faulty struct{ llamacpp.Engine }

func (faulty) Name() string { return "faulty" }

func (faulty) Launch(req engine.Request, host engine.Host) (engine.LaunchSpec, error) {
	if host.Binary.Path != "" { // a validation has none
		var none []string
		_ = none[3]
	}
	return llamacpp.Engine{}.Launch(req, host)
}

func TestAMistakeIsOneReplicasFailure(t *testing.T) {
	t.Parallel()
	cfgs := fakeConfigs(t, 2, enginetest.Behavior{})
	cfgs[1].PoolID, cfgs[1].Engine = "other", "faulty"
	cfgs[1] = briskly(cfgs[1])
	log := &lockedBuffer{}
	opts := []Option{WithEngine(faulty{}), WithLogger(slog.New(slog.NewTextHandler(log, nil)))}
	s, _ := supervised(t, cfgs[:1], opts...)
	if err := s.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	healthy := s.Status()[0]
	for range 2 { // it is new, and then it is changed
		results, err := s.Apply(bounded(t), cfgs)
		if err != nil || len(results) != 2 || results[0].Result != ReloadUnchanged || results[1].Result != ReloadFailed {
			t.Fatalf("%+v, %v", results, err)
		}
		wantText(t, results[1].Err, "other/", "internal error", "index out of range [3]", "report it")
		cfgs[1].Flags = []string{"--ctx-size", "77"}
	}
	if _, err := Plan(bounded(t), cfgs[1], opts...); !errors.As(err, new(*caught.PanicError)) {
		t.Errorf("Plan: %v", err)
	}
	if now := s.Status()[0]; now.State != StateReady || now.LaunchID != healthy.LaunchID {
		t.Errorf("the other one: %+v", now)
	}
	if !strings.Contains(log.String(), "guard_test.go") {
		t.Errorf("no stack is in the log: %s", log.String())
	}
}

// Whatever step it is, nothing is left behind.
func TestAMistakeLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"before_start", "after_record", "after_fork", "after_running_record", "before_publish", "after_publish"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			p, _ := newLaunch(t, cfg)
			p.opts.failpoint = func(name string) {
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
