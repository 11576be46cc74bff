package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
	"github.com/llama-orch/engine-provisioner/internal/test/look"
	"github.com/llama-orch/engine-provisioner/internal/test/wait"
	"github.com/llama-orch/engine-provisioner/settings"
	"go.uber.org/goleak"
)

// The waits of these tests.
const patience = wait.Patience

var (
	bounded     = wait.Bounded
	eventually  = wait.Until
	returns     = wait.Returns
	awaitClosed = wait.Closed
)

// What these tests see.
var (
	alive      = look.Alive
	wantText   = look.WantText
	statusAt   = look.StatusAt
	formatAll  = look.Printed
	filesBelow = look.FilesBelow
)

// Of fakeConfig, others of its pool, and one that never is.
var (
	poolR0 = provisioner.ReplicaID{Pool: "pool", Replica: "r0"}
	poolR1 = provisioner.ReplicaID{Pool: "pool", Replica: "r1"}
	poolR9 = provisioner.ReplicaID{Pool: "pool", Replica: "r9"}
)

// fakeConfig is a replica whose engine behaves like b, with a state directory of its own.
func fakeConfig(t testing.TB, b enginetest.Behavior) provisioner.ProvisionConfig {
	t.Helper()
	dir := t.TempDir()
	model := filepath.Join(dir, "model.gguf")
	if err := os.WriteFile(model, []byte(enginetest.GGUF), 0o600); err != nil {
		t.Fatal(err)
	}
	return provisioner.ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "llamacpp", Port: enginetest.FreePort(t, 1), Model: settings.Model{ID: model}, GPU: engine.GPUNone,
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: enginetest.Install(t, b)}},
	}
}

// TestMain is where the test binary becomes the fake engine, or a manager that is to be killed; it fails when an engine or a
// goroutine outlives the tests.
func TestMain(m *testing.M) {
	chaosMain()
	vllmMain()
	_ = os.Setenv("HF_HUB_OFFLINE", "1") // tests that are about the hub bring one
	goleak.VerifyTestMain(suite{m})
}

type suite struct{ *testing.M }

func (s suite) Run() int {
	code := enginetest.Run(s.M)
	// goleak waits two seconds for goroutines that are at their end, which is not enough for a busy machine.
	for deadline := time.Now().Add(patience); goleak.Find() != nil && time.Now().Before(deadline); {
	}
	return code
}

// journal keeps the events of a launch.
type journal struct {
	mu     sync.Mutex
	events []provisioner.Event
}

func (j *journal) add(e provisioner.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

func (j *journal) states() []provisioner.State {
	j.mu.Lock()
	defer j.mu.Unlock()
	var states []provisioner.State
	for _, e := range j.events {
		if e.Kind == provisioner.EventState {
			states = append(states, e.State)
		}
	}
	return states
}

func (j *journal) notes() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var notes []string
	for _, e := range j.events {
		if e.Kind == provisioner.EventNote {
			notes = append(notes, e.Message)
		}
	}
	return strings.Join(notes, "\n")
}

// newLaunch is a launch that is stopped when the test ends, and then is proven to have left nothing.
func newLaunch(t testing.TB, cfg provisioner.ProvisionConfig, opts ...provisioner.Option) (*provisioner.EngineProvisioner, *journal) {
	t.Helper()
	j := &journal{}
	p, err := provisioner.New(cfg, append([]provisioner.Option{provisioner.WithCacheDir(t.TempDir()), provisioner.WithEventFunc(j.add)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(context.Background()); err != nil && !errors.Is(err, provisioner.ErrKilled) && !errors.Is(err, provisioner.ErrReleased) && !errors.Is(err, provisioner.ErrDrainAborted) {
			t.Errorf("cannot stop: %v", err)
		}
	})
	return p, j
}

func started(t testing.TB, cfg provisioner.ProvisionConfig, opts ...provisioner.Option) (*provisioner.EngineProvisioner, *journal) {
	t.Helper()
	p, j := newLaunch(t, cfg, opts...)
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return p, j
}

func ready(t testing.TB, cfg provisioner.ProvisionConfig, opts ...provisioner.Option) (*provisioner.EngineProvisioner, *journal) {
	t.Helper()
	p, j := started(t, cfg, opts...)
	if _, err := p.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return p, j
}

// awaitDone waits for the end of a launch that ends by itself.
func awaitDone(t testing.TB, p *provisioner.EngineProvisioner) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatalf("still %s", p.Status().State)
	}
}

// nothingLeft fails the test unless every trace of the launch is gone: processes, port, handoff, temporary folder.
func nothingLeft(t testing.TB, p *provisioner.EngineProvisioner) {
	t.Helper()
	files := filesOf(p)
	rec, err := readRecord(files)
	if err != nil || !rec.State.Final() {
		t.Errorf("record says %q (%v)", rec.State, err)
	}
	if names, err := (&proc.Tree{Mark: rec.LaunchID, Leader: rec.Process}).Survivors(); names != "" || err != nil {
		t.Errorf("processes left: %s (%v)", names, err)
	}
	// Whoever looks at a port holds it for a moment, and a socket can outlive its process by a moment.
	eventually(t, fmt.Sprintf("port %d is free", rec.Port), func() bool { return port.Holder(rec.Host, rec.Port, nil) == "" })
	for _, path := range []string{files.Handoff(), files.PID(), rec.TempDir, rec.Cgroup} {
		if path == "" {
			continue
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s left (%v)", path, err)
		}
	}
	lock, err := files.Lock()
	if err != nil {
		t.Errorf("the lock is held: %v", err)
	} else {
		lock.Release()
	}
	left, err := fs.Glob(os.DirFS(files.State), "*/.tmp-*")
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files left: %v (%v)", left, err)
	}
}

func wantStates(t testing.TB, j *journal, want ...provisioner.State) {
	t.Helper()
	if got := j.states(); !slices.Equal(got, want) {
		t.Errorf("states: %v, want %v", got, want)
	}
}

func writeProgram(t testing.TB, path, text string) { t.Helper(); host.Program(t, path, text) }

func itoa(n int) string { return strconv.Itoa(n) }

func skip(t testing.TB, why string) { t.Helper(); host.Skip(t, why) }
