package fleet

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/node"
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
	opts := []provisioner.Option{provisioner.WithEngine(faulty{}), provisioner.WithLogger(slog.New(slog.NewTextHandler(log, nil)))}
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
	if _, err := node.Plan(bounded(t), cfgs[1], opts...); !errors.As(err, new(*caught.PanicError)) {
		t.Errorf("Plan: %v", err)
	}
	if now := s.Status()[0]; now.State != provisioner.StateReady || now.LaunchID != healthy.LaunchID {
		t.Errorf("the other one: %+v", now)
	}
	if !strings.Contains(log.String(), "guard_test.go") {
		t.Errorf("no stack is in the log: %s", log.String())
	}
}
