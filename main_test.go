package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
	"github.com/llama-orch/engine-provisioner/internal/test/look"
	"github.com/llama-orch/engine-provisioner/internal/test/wait"
	"github.com/llama-orch/engine-provisioner/settings"
)

// TestMain is where the test binary becomes the fake engine; it fails when an engine or a goroutine outlives the tests.
func TestMain(m *testing.M) {
	racerMain()
	strangerMain()
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

// poolR0 is the replica of fakeConfig.
var poolR0 = ReplicaID{Pool: "pool", Replica: "r0"}

// fakeConfig is a replica whose engine behaves like b, with a state directory of its own.
func fakeConfig(t testing.TB, b enginetest.Behavior) ProvisionConfig {
	t.Helper()
	dir := t.TempDir()
	model := filepath.Join(dir, "model.gguf")
	if err := os.WriteFile(model, []byte(enginetest.GGUF), 0o600); err != nil {
		t.Fatal(err)
	}
	return ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "llamacpp", Port: enginetest.FreePort(t, 1), Model: settings.Model{ID: model}, GPU: engine.GPUNone,
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: enginetest.Install(t, b)}},
	}
}

// journal keeps the events of a launch.
type journal struct {
	mu     sync.Mutex
	events []Event
}

func (j *journal) add(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

func (j *journal) states() []State {
	j.mu.Lock()
	defer j.mu.Unlock()
	var states []State
	for _, e := range j.events {
		if e.Kind == EventState {
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
		if e.Kind == EventNote {
			notes = append(notes, e.Message)
		}
	}
	return strings.Join(notes, "\n")
}

// newLaunch is a launch that is stopped when the test ends, and then is proven to have left nothing.
func newLaunch(t testing.TB, cfg ProvisionConfig, opts ...Option) (*EngineProvisioner, *journal) {
	t.Helper()
	j := &journal{}
	p, err := New(cfg, append([]Option{WithCacheDir(t.TempDir()), WithEventFunc(j.add)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(context.Background()); err != nil && !errors.Is(err, ErrKilled) && !errors.Is(err, ErrReleased) && !errors.Is(err, ErrDrainAborted) {
			t.Errorf("cannot stop: %v", err)
		}
	})
	return p, j
}

func started(t testing.TB, cfg ProvisionConfig, opts ...Option) (*EngineProvisioner, *journal) {
	t.Helper()
	p, j := newLaunch(t, cfg, opts...)
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return p, j
}

func ready(t testing.TB, cfg ProvisionConfig, opts ...Option) (*EngineProvisioner, *journal) {
	t.Helper()
	p, j := started(t, cfg, opts...)
	if _, err := p.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return p, j
}

// awaitDone waits for the end of a launch that ends by itself.
func awaitDone(t testing.TB, p *EngineProvisioner) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatalf("still %s", p.Status().State)
	}
}

// host is a launch of processes, for tests that do something to them.
func (r *run) host() *perform.Processes { return r.inst.(*perform.Processes) }

// nothingLeft fails the test unless every trace of the launch is gone: processes, port, handoff, temporary folder.
func nothingLeft(t testing.TB, p *EngineProvisioner) {
	t.Helper()
	r := p.run
	if names, err := (&proc.Tree{Mark: r.rec.LaunchID, Leader: r.host().Tree.Leader}).Survivors(); names != "" || err != nil {
		t.Errorf("processes left: %s (%v)", names, err)
	}
	// Whoever looks at a port holds it for a moment, and a socket can outlive its process by a moment.
	eventually(t, fmt.Sprintf("port %d is free", r.rec.Port), func() bool { return port.Holder(r.rec.Host, r.rec.Port, nil) == "" })
	for _, path := range []string{r.files.Handoff(), r.files.PID(), r.rec.TempDir, r.rec.Cgroup} {
		if path == "" {
			continue
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s left (%v)", path, err)
		}
	}
	rec, err := readRecord(r.files)
	if err != nil || !rec.State.Final() {
		t.Errorf("record says %q (%v)", rec.State, err)
	}
	lock, err := r.files.Lock()
	if err != nil {
		t.Errorf("the lock is held: %v", err)
	} else {
		lock.Release()
	}
	leftovers, err := filepath.Glob(filepath.Join(escapeGlob(r.files.State), "*", ".tmp-*"))
	if err != nil || len(leftovers) > 0 {
		t.Errorf("temporary files left: %v (%v)", leftovers, err)
	}
}

func wantStates(t testing.TB, j *journal, want ...State) {
	t.Helper()
	if got := j.states(); !slices.Equal(got, want) {
		t.Errorf("states: %v, want %v", got, want)
	}
}

func listen(t testing.TB, port int) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func writeProgram(t testing.TB, path, text string) { t.Helper(); host.Program(t, path, text) }

func itoa(n int) string { return strconv.Itoa(n) }

// stateOf is a process's state in /proc, 0 when it is gone.
func stateOf(pid int) byte {
	s, err := procfs.ReadStat(pid)
	if err != nil {
		return 0
	}
	return s.State
}

func skip(t testing.TB, why string) { t.Helper(); host.Skip(t, why) }

// vllmFake is a replica of a fake vLLM whose own waits are short.
func vllmFake(t testing.TB, b enginetest.Behavior) ProvisionConfig {
	t.Helper()
	b.Engine, b.Speed = enginetest.VLLM, 50
	cfg := fakeConfig(t, b)
	cfg.Engine, cfg.Model.ID = "vllm", "hf:owner/model"
	return cfg
}
