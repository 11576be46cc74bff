package fleet

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/test/burst"
	"github.com/llama-orch/engine-provisioner/settings"
)

// slow is a model whose requests last: a thousand tokens take some seconds.
var slow = ggufgen.Params{Width: 512, Layers: 4, Context: 8192}

func saturatedConfig(t testing.TB) provisioner.ProvisionConfig {
	cfg := briskly(realConfig(t, slow))
	cfg.Flags = []string{"--ctx-size", "8192", "--parallel", "2", "--threads", "1"}
	cfg.Drain.Timeout = new(settings.Duration(5 * time.Minute))
	return cfg
}

// A llama-server that gets a burst of clients leaves /health without an answer: its pool of threads grows only with later
// connections, and these wait behind the others. It serves on, whatever liveness sees, and a stop cuts nobody off. How often it
// is silent is luck, so the burst waits in the backlog of a suspended server to come all at once.
func TestRealSaturated(t *testing.T) {
	t.Parallel()
	cfg := saturatedConfig(t)
	cfg.Liveness = settings.Liveness{Period: settings.Duration(100 * time.Millisecond), Timeout: settings.Duration(100 * time.Millisecond)}
	s, j := superviseReady(t, cfg)
	first := s.Status()[0]
	if err := syscall.Kill(first.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b := burst.Start(t.Context(), first.URL, 1, 100)
	defer b.Wait()
	eventually(t, "all clients are connected", func() bool { return b.Connected.Load() == burst.Clients })
	if err := syscall.Kill(first.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	ask, unanswered := probe.New("127.0.0.1", cfg.Port, secret.Text{}, 200*time.Millisecond), 0
	eventually(t, "clients are answered", func() bool {
		if _, err := ask.Get(t.Context(), "/health", probe.MaxHealthBody); errors.Is(err, probe.ErrNoAnswer) {
			unanswered++
		}
		return b.Answered.Load() >= 2
	})
	t.Logf("/health was unanswered %d times", unanswered)
	if now := s.Status()[0]; now.LaunchID != first.LaunchID || now.State != provisioner.StateReady {
		t.Errorf("%+v", now)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("Stop: %v", err)
	}
	b.Wait()
	if b.Answered.Load() != burst.Clients || b.Cut.Load() != 0 {
		t.Errorf("%d clients were answered, %d cut off", b.Answered.Load(), b.Cut.Load())
	}
	if notes := j.notes(); strings.Contains(notes, "not waited for") {
		t.Errorf("notes: %s", notes)
	}
}
