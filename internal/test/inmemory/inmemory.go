// Package inmemory performs launches as servers within the test, which cost a hundredth of a process, and stand still wherever
// they are told to: so any two calls can meet in any state of a launch.
//
// Tests of the root and of fleet call it, and nothing else.
package inmemory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/launch"
)

// Machine performs launches in memory. What stands still on it is told by Still, and goes on by GoOn.
type Machine struct {
	mu        sync.Mutex
	running   map[string]*instance // by LaunchID
	stands    chan struct{}        // closed when what stands still is to go on
	Starting  bool                 // Start stands still
	Loading   bool                 // the health path does
	Busy      bool                 // requests are in flight
	Ignorant  bool                 // SIGTERM is not heard
	Reached   chan struct{}        // holds a token once something stands still
	CannotRun bool
}

// New is a machine on which nothing stands still.
func New() *Machine {
	return &Machine{running: map[string]*instance{}, stands: make(chan struct{}), Reached: make(chan struct{}, 1)}
}

// GoOn ends all standing still.
func (m *Machine) GoOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !closed(m.stands) {
		close(m.stands)
	}
}

// standStill reports whether something stands still for what, and says that it is there.
func (m *Machine) standStill(what *bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !*what || closed(m.stands) {
		return false
	}
	select {
	case m.Reached <- struct{}{}:
	default:
	}
	return true
}

// Still makes something stand still from now on.
func (m *Machine) Still(what *bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*what = true
}

// KillAll ends what was let go.
func (m *Machine) KillAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.running {
		e.end()
	}
}

// Mode is that of files of this host.
func (m *Machine) Mode() string { return "binary" }

// Locate leaves it to the host: the program is a file.
func (m *Machine) Locate(context.Context, launch.Target, engine.Program) (engine.Binary, string, error) {
	return engine.Binary{}, "", errors.ErrUnsupported // it is a file of this host
}

// Fetch has nothing to get.
func (m *Machine) Fetch(context.Context, launch.Target, engine.Program, func(launch.Progress)) (engine.Binary, error) {
	return engine.Binary{}, errors.ErrUnsupported
}

// Ask has nobody to ask.
func (m *Machine) Ask(context.Context, launch.Target, engine.Program, engine.Binary, []string) (string, error) {
	return "", errors.ErrUnsupported
}

// Reserve gives a launch that has not begun.
func (m *Machine) Reserve(to launch.Target, ref launch.Ref) (launch.Instance, error) {
	return &instance{of: m, ref: ref, address: net.JoinHostPort(port.Loopback(to.Host), strconv.Itoa(to.Port)), over: make(chan struct{})}, nil
}

// Find gives a launch by its id; one that is not known has ended.
func (m *Machine) Find(_ context.Context, ref launch.Ref) (launch.Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.running[ref.LaunchID]; e != nil {
		return e, nil
	}
	over := make(chan struct{})
	close(over)
	return &instance{of: m, ref: ref, over: over}, nil
}

// instance is one launch.
type instance struct {
	of      *Machine
	ref     launch.Ref
	address string
	server  *http.Server
	once    sync.Once
	over    chan struct{} // closed when it has ended
	exit    launch.Exit
}

func (e *instance) Ref() launch.Ref { return e.ref }

func (e *instance) Start(ctx context.Context, _ launch.Launch) error {
	if e.of.CannotRun {
		return errors.New("it cannot run")
	}
	if e.of.standStill(&e.of.Starting) {
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

func (e *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/metrics":
		n := 0
		if e.of.standStill(&e.of.Busy) {
			n = 1
		}
		fmt.Fprintf(w, "in_flight %d\n", n)
	case e.of.standStill(&e.of.Loading):
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// end is called with of.mu held.
func (e *instance) end() {
	e.once.Do(func() {
		if e.server != nil {
			_ = e.server.Close()
		}
		delete(e.of.running, e.ref.LaunchID)
		e.exit = launch.Exit{Known: true}
		close(e.over)
	})
}

func (e *instance) Kill() (int, error) {
	e.of.mu.Lock()
	defer e.of.mu.Unlock()
	if e.Exited() {
		return 0, nil
	}
	e.end()
	return 1, nil
}

func (e *instance) Signal(sig syscall.Signal) error {
	if sig != syscall.SIGTERM {
		return nil
	}
	if e.of.standStill(&e.of.Ignorant) {
		go func() {
			<-e.of.stands
			_, _ = e.Kill()
		}()
		return nil
	}
	_, err := e.Kill()
	return err
}

func (e *instance) Wait(ctx context.Context) error {
	select {
	case <-e.over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *instance) Members() ([]launch.Member, error) {
	if e.Exited() {
		return nil, nil
	}
	return []launch.Member{{Name: "memory", State: 'S'}}, nil
}

func (e *instance) PID() int                          { return 0 }
func (e *instance) Exited() bool                      { return closed(e.over) }
func (e *instance) Observe() ([]launch.Member, error) { return e.Members() }
func (e *instance) Listens(string, int) (bool, bool)  { return true, true }
func (e *instance) Exit() launch.Exit                 { return e.exit }
func (e *instance) Remove() error                     { return nil }
func (e *instance) Release()                          {}

// Kind is the Engine of launches in memory.
type Kind struct{}

// Name is part of the root's Engine, as are Program and Launch.
func (Kind) Name() string { return "memory" }

// Program is a file that is never executed.
func (Kind) Program(engine.Request) engine.Program {
	return engine.Program{Command: "true", Model: engine.ModelAny}
}

// Launch describes what Machine serves.
func (Kind) Launch(engine.Request, engine.Host) (engine.LaunchSpec, error) {
	return engine.LaunchSpec{Health: "/health", Gauges: &engine.Gauges{Path: "/metrics", Names: []string{"in_flight"}}, Grace: time.Hour}, nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
