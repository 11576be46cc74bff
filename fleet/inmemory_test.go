package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/launch"
)

// inMemory performs launches as servers within the test, which cost a hundredth of a process, and stand still wherever
// they are told to.
type inMemory struct {
	mu        sync.Mutex
	running   map[string]*memoryEngine // by LaunchID
	stands    chan struct{}            // closed when what stands still is to go on
	starting  bool                     // Start stands still
	loading   bool                     // the health path does
	busy      bool                     // requests are in flight
	ignorant  bool                     // SIGTERM is not heard
	reached   chan struct{}            // holds a token once something stands still
	cannotRun bool
}

func newInMemory() *inMemory {
	return &inMemory{running: map[string]*memoryEngine{}, stands: make(chan struct{}), reached: make(chan struct{}, 1)}
}

// goOn ends all standing still.
func (m *inMemory) goOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !closed(m.stands) {
		close(m.stands)
	}
}

// standStill reports whether something stands still for what, and says that it is there.
func (m *inMemory) standStill(what *bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !*what || closed(m.stands) {
		return false
	}
	select {
	case m.reached <- struct{}{}:
	default:
	}
	return true
}

// still makes something stand still from now on.
func (m *inMemory) still(what *bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*what = true
}

// killAll ends what was let go.
func (m *inMemory) killAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.running {
		e.end()
	}
}

func (m *inMemory) Mode() string { return "binary" }

func (m *inMemory) Locate(context.Context, launch.Target, engine.Program) (engine.Binary, string, error) {
	return engine.Binary{}, "", errors.ErrUnsupported // it is a file of this host
}

func (m *inMemory) Fetch(context.Context, launch.Target, engine.Program, func(launch.Progress)) (engine.Binary, error) {
	return engine.Binary{}, errors.ErrUnsupported
}

func (m *inMemory) Ask(context.Context, launch.Target, engine.Program, engine.Binary, []string) (string, error) {
	return "", errors.ErrUnsupported
}

func (m *inMemory) Reserve(to launch.Target, ref launch.Ref) (launch.Instance, error) {
	return &memoryEngine{of: m, ref: ref, address: net.JoinHostPort(port.Loopback(to.Host), itoa(to.Port)), over: make(chan struct{})}, nil
}

func (m *inMemory) Find(_ context.Context, ref launch.Ref) (launch.Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.running[ref.LaunchID]; e != nil {
		return e, nil
	}
	over := make(chan struct{})
	close(over)
	return &memoryEngine{of: m, ref: ref, over: over}, nil
}

// memoryEngine is one launch.
type memoryEngine struct {
	of      *inMemory
	ref     launch.Ref
	address string
	server  *http.Server
	once    sync.Once
	over    chan struct{} // closed when it has ended
	exit    launch.Exit
}

func (e *memoryEngine) Ref() launch.Ref { return e.ref }

func (e *memoryEngine) Start(ctx context.Context, _ launch.Launch) error {
	if e.of.cannotRun {
		return errors.New("it cannot run")
	}
	if e.of.standStill(&e.of.starting) {
		select {
		case <-e.of.stands:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	listener, err := net.Listen("tcp", e.address)
	if err != nil {
		return err
	}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: time.Minute}
	e.server.SetKeepAlivesEnabled(false)
	go func() { _ = e.server.Serve(listener) }()
	e.of.mu.Lock()
	defer e.of.mu.Unlock()
	e.of.running[e.ref.LaunchID] = e
	return nil
}

func (e *memoryEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/metrics":
		n := 0
		if e.of.standStill(&e.of.busy) {
			n = 1
		}
		fmt.Fprintf(w, "in_flight %d\n", n)
	case e.of.standStill(&e.of.loading):
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// end is called with of.mu held.
func (e *memoryEngine) end() {
	e.once.Do(func() {
		if e.server != nil {
			_ = e.server.Close()
		}
		delete(e.of.running, e.ref.LaunchID)
		e.exit = launch.Exit{Known: true}
		close(e.over)
	})
}

func (e *memoryEngine) Kill() (int, error) {
	e.of.mu.Lock()
	defer e.of.mu.Unlock()
	if e.Exited() {
		return 0, nil
	}
	e.end()
	return 1, nil
}

func (e *memoryEngine) Signal(sig syscall.Signal) error {
	if sig != syscall.SIGTERM {
		return nil
	}
	if e.of.standStill(&e.of.ignorant) {
		go func() {
			<-e.of.stands
			_, _ = e.Kill()
		}()
		return nil
	}
	_, err := e.Kill()
	return err
}

func (e *memoryEngine) Wait(ctx context.Context) error {
	select {
	case <-e.over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *memoryEngine) Members() ([]launch.Member, error) {
	if e.Exited() {
		return nil, nil
	}
	return []launch.Member{{Name: "memory", State: 'S'}}, nil
}

func (e *memoryEngine) PID() int { return 0 }

func (e *memoryEngine) Exited() bool { return closed(e.over) }

func (e *memoryEngine) Observe() ([]launch.Member, error) { return e.Members() }

func (e *memoryEngine) Listens(string, int) (bool, bool) { return true, true }

func (e *memoryEngine) Exit() launch.Exit { return e.exit }

func (e *memoryEngine) Remove() error { return nil }

func (e *memoryEngine) Release() {}

// memoryKind is the Engine of launches in memory.
type memoryKind struct{}

func (memoryKind) Name() string { return "memory" }

func (memoryKind) Program(engine.Request) engine.Program {
	return engine.Program{Command: "true", Model: engine.ModelAny}
}

func (memoryKind) Launch(engine.Request, engine.Host) (engine.LaunchSpec, error) {
	return engine.LaunchSpec{Health: "/health", Gauges: &engine.Gauges{Path: "/metrics", Names: []string{"in_flight"}}, Grace: time.Hour}, nil
}

// memoryConfig is a replica for an inMemory.
func memoryConfig(t testing.TB) provisioner.ProvisionConfig {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, nil, 0o700); err != nil { //nolint:gosec // it is to be executable
		t.Fatal(err)
	}
	return provisioner.ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "memory", Port: enginetest.FreePort(t, 1), GPU: provisioner.GPUNone,
		Provisioning: provisioner.Provisioning{Binary: &provisioner.BinaryConfig{Path: program}}, Drain: provisioner.DrainConfig{Timeout: new(provisioner.Duration(time.Hour))},
	}
}

func (m *inMemory) options() []provisioner.Option {
	return []provisioner.Option{provisioner.WithEngine(memoryKind{}), provisioner.WithLauncher(m)}
}
