package fleet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// An engine that is suspended while it has no manager is adopted by the next one, and serves when it is continued.
func TestChaosSuspended(t *testing.T) {
	t.Parallel()
	rounds, _ := chaosCount(t, "CHAOS_MISTAKES", 2)
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	cfg.Liveness = quick()
	s, _ := superviseReady(t, cfg)
	was := s.Status()[0]
	kept := 0
	for n := range rounds {
		if err := errors.Join(s.Release(), syscall.Kill(was.PID, syscall.SIGSTOP)); err != nil {
			t.Fatal(err)
		}
		var j *journal
		s, j = supervised(t, []provisioner.ProvisionConfig{cfg})
		eventually(t, "it is told that it is suspended", func() bool { return strings.Contains(j.notes(), "suspended") })
		if err := syscall.Kill(was.PID, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := s.WaitReady(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if now := s.Status()[0]; now.LaunchID != was.LaunchID || statusAt(t, was.URL+"/health") != http.StatusOK {
			t.Fatalf("round %d: %+v", n, now)
		}
		kept++
	}
	t.Logf("chaos: %d engines of %d that were suspended over a change of managers were kept", kept, rounds)
}

// An engine that wedges, at work or by its own account idle, is replaced each time.
func TestChaosWedged(t *testing.T) {
	t.Parallel()
	rounds, _ := chaosCount(t, "CHAOS_MISTAKES", 2)
	found := 0
	for n := range rounds {
		hidden := n%2 == 1
		cfg := tirelessly(fakeConfig(t, enginetest.Behavior{HideRequests: hidden}))
		cfg.Liveness = quick()
		if hidden {
			cfg.Liveness.TokenPeriod = settings.Duration(time.Second)
		}
		s, j := superviseReady(t, cfg)
		was := s.Status()[0]
		enginetest.Wedge(t, was.URL)
		ask1(t, was.URL)
		untilReady(t, s, was.LaunchID)
		if lost := j.lost(); lost == nil || !lost.Ready {
			t.Fatalf("round %d: %v", n, lost)
		}
		found++
		if err := s.Shutdown(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
	t.Logf("chaos: %d of %d wedged engines were found and replaced", found, rounds)
}

// A state directory that is removed under a manager is there again, with the handoff of the engine that runs on; no other
// manager gets in meanwhile.
func TestChaosStateRemoved(t *testing.T) {
	t.Parallel()
	rounds, _ := chaosCount(t, "CHAOS_MISTAKES", 2)
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, cfg)
	was, files := s.Status()[0], s.all()[0].files
	refused := 0
	for n := range rounds {
		if err := os.RemoveAll(cfg.StateDir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) { // it is being made again
			t.Fatal(err)
		}
		other, err := opened(bounded(t), []provisioner.ProvisionConfig{cfg})
		if !errors.Is(err, provisioner.ErrLocked) {
			if other != nil {
				_ = other.Release()
			}
			t.Fatalf("round %d: a second manager: %v", n, err)
		}
		refused++
		eventually(t, "the handoff is there", func() bool {
			h, err := provisioner.ReadHandoff(files.Handoff())
			return err == nil && h.Process.PID == was.PID
		})
		eventually(t, "the lock is taken", func() bool { return state.Managed(files.State) })
		if now := s.Status()[0]; now.LaunchID != was.LaunchID || statusAt(t, was.URL+"/health") != http.StatusOK {
			t.Fatalf("round %d: %+v", n, now)
		}
	}
	t.Logf("chaos: state directory removed %d times: 1 engine untouched, handoff written again each time, %d second managers refused", rounds, refused)
}

// A replica whose model is not what it says fails alone.
func TestChaosHostileModels(t *testing.T) {
	t.Parallel()
	rounds, _ := chaosCount(t, "CHAOS_MISTAKES", 2)
	healthy := briskly(fakeConfig(t, enginetest.Behavior{}))
	s, _ := superviseReady(t, healthy)
	was := s.Status()[0]
	var whole bytes.Buffer
	if err := ggufgen.Write(&whole, ggufgen.Params{}); err != nil {
		t.Fatal(err)
	}
	refused, served := 0, 0
	for n := range rounds {
		hostile := healthy
		hostile.ReplicaID, hostile.Port = "r1", enginetest.FreePort(t, 1)
		hostile.Model.ID = filepath.Join(hostile.Dir, "hostile-"+itoa(n)+".gguf")
		if err := os.WriteFile(hostile.Model.ID, spoiled(whole.Bytes(), rand.New(rand.NewPCG(uint64(n), 1))), 0o600); err != nil {
			t.Fatal(err)
		}
		results, err := s.Apply(bounded(t), []provisioner.ProvisionConfig{healthy, hostile})
		if err != nil {
			t.Fatal(err)
		}
		var failed error
		for _, r := range results {
			failed = errors.Join(failed, r.Err)
		}
		if failed != nil {
			refused++
		} else {
			served++ // what was spoiled is nothing that anybody reads
		}
		if now := s.Status()[0]; now.LaunchID != was.LaunchID || now.State != provisioner.StateReady || statusAt(t, was.URL+"/health") != http.StatusOK {
			t.Fatalf("round %d: the healthy one: %+v", n, now)
		}
		if _, err := s.Apply(bounded(t), []provisioner.ProvisionConfig{healthy}); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(hostile.Model.ID)
	}
	t.Logf("chaos: %d spoiled models beside a healthy replica, which ran on: %d refused, %d started", rounds, refused, served)
}

// spoiled is a model with a few numbers of its header replaced by others: lengths, counts, kinds and texts alike.
func spoiled(model []byte, random *rand.Rand) []byte {
	model = bytes.Clone(model)
	for range 1 + random.IntN(4) {
		at := 8 + random.IntN(2000)
		switch random.IntN(3) {
		case 0:
			model[at] ^= byte(1 + random.IntN(255))
		case 1:
			binary.LittleEndian.PutUint64(model[at:], random.Uint64()>>random.IntN(64))
		default:
			binary.LittleEndian.PutUint32(model[at:], uint32(random.IntN(16)))
		}
	}
	return model
}

// The real engine, whose model is truncated under it, as cp over it does at first, dies at the next request. It serves again
// once the copy is complete.
func TestChaosModelReplaced(t *testing.T) {
	t.Parallel()
	rounds, _ := chaosCount(t, "CHAOS_REAL", 1)
	cfg := tirelessly(realConfig(t, tiny))
	cfg.Flags = append(cfg.Flags, "--load-mode", "mmap")
	whole := mustRead(t, cfg.Model.ID)
	s, _ := superviseReady(t, cfg)
	back, died := 0, 0
	for n := range rounds {
		was := s.Status()[0]
		if err := os.Truncate(cfg.Model.ID, 0); err != nil {
			t.Fatal(err)
		}
		if err := complete(was.URL, make(chan struct{})); err != nil { // all of it can be in memory already
			died++
			eventually(t, "a start has failed", func() bool { r := s.Status()[0].Restarts; return r.Failures > 1 || r.Phase == report.PhaseFailed })
		}
		if err := os.WriteFile(cfg.Model.ID, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is ready", func() bool {
			now := s.Status()[0]
			return now.State == provisioner.StateReady || now.Restarts.Phase == report.PhaseFailed
		})
		if now := s.Status()[0]; now.Restarts.Phase == report.PhaseFailed {
			t.Fatalf("round %d: given up: %s", n, now.Restarts.Last)
		}
		if err := complete(s.Status()[0].URL, make(chan struct{})); err != nil {
			t.Errorf("round %d: %v", n, err)
		}
		back++
	}
	t.Logf("chaos: llama-server: model truncated %d times: %d died of it, %d of %d serve again", rounds, died, back, rounds)
}
