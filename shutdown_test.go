package provisioner

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Whatever the engine's processes do, after Stop none of them is alive.
func TestStopEndsTheTree(t *testing.T) {
	t.Parallel()
	deaf := func(c enginetest.Child) enginetest.Child { c.IgnoreTerm = true; return c }
	all := []enginetest.Child{
		{Kind: enginetest.SameGroup}, {Kind: enginetest.OwnGroup}, {Kind: enginetest.NewSession}, {Kind: enginetest.DoubleFork},
	}
	var deafOnes, holding, closing []enginetest.Child
	for _, c := range all {
		deafOnes = append(deafOnes, deaf(c))
		holding = append(holding, enginetest.Child{Kind: c.Kind, HoldStdout: true})
		closing = append(closing, enginetest.Child{Kind: c.Kind, CloseFDs: true, IgnoreTerm: true})
	}
	tests := map[string]struct {
		behavior enginetest.Behavior
		suspend  bool // by SIGSTOP
		killed   bool // the grace period is not enough
	}{
		"alone":                   {behavior: enginetest.Behavior{}},
		"children of every kind":  {behavior: enginetest.Behavior{Children: all}},
		"deaf children":           {behavior: enginetest.Behavior{Children: deafOnes}},
		"children holding stdout": {behavior: enginetest.Behavior{Children: holding}},
		"children without fds":    {behavior: enginetest.Behavior{Children: closing}},
		"a child without environment": {
			behavior: enginetest.Behavior{Children: []enginetest.Child{{Kind: enginetest.NewSession, ClearEnv: true}}},
		},
		"environment wiped":    {behavior: enginetest.Behavior{WipeEnviron: true, Children: all}},
		"deaf":                 {behavior: enginetest.Behavior{IgnoreTerm: true, Children: deafOnes}, killed: true},
		"deaf to the first":    {behavior: enginetest.Behavior{ExitOnSecondTerm: true}, killed: true},
		"slow":                 {behavior: enginetest.Behavior{SlowExit: 100 * time.Millisecond}},
		"too slow":             {behavior: enginetest.Behavior{SlowExit: time.Minute}, killed: true},
		"suspended":            {suspend: true},
		"files and shm behind": {behavior: enginetest.Behavior{Shm: 1 << 20, TmpFiles: true}},
		"killed with shm":      {behavior: enginetest.Behavior{Shm: 1 << 20, TmpFiles: true, IgnoreTerm: true}, killed: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, test.behavior)
			cfg.Stop.Grace = settings.Duration(10 * time.Second)
			if test.killed {
				cfg.Stop.Grace = settings.Duration(300 * time.Millisecond)
			}
			p, j := ready(t, cfg)
			pid := p.Status().PID
			children := enginetest.Inspect(t, p.handoff.URL).Children
			if test.suspend {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the engine is suspended", func() bool { return stateOf(pid) == 'T' })
				p.run.rec.Launch.Ready.RequestTimeout = settings.Duration(100 * time.Millisecond) // what the drain waits for an answer
			}
			if len(children) != len(test.behavior.Children) {
				t.Fatalf("children %v", children)
			}
			err := p.Stop(bounded(t))
			if errors.Is(err, ErrKilled) != test.killed || err != nil && !test.killed {
				t.Errorf("Stop: %v", err)
			}
			for _, pid := range append(children, pid) {
				if alive(pid) {
					t.Errorf("pid %d is alive", pid)
				}
			}
			nothingLeft(t, p)
			if _, err := os.Lstat("/dev/shm/enginetest-" + itoa(pid)); err == nil {
				t.Error("an object is left in /dev/shm")
			}
			wantStates(t, j, StatePreparing, StateStarting, StateReady, StateDraining, StateStopping, StateStopped)
		})
	}
}

// The same when nobody asked for the end.
func TestCrashEndsTheTree(t *testing.T) {
	t.Parallel()
	p, j := ready(t, fakeConfig(t, enginetest.Behavior{
		Shm: 4096, TmpFiles: true,
		Children: []enginetest.Child{{}, {Kind: enginetest.OwnGroup, IgnoreTerm: true}, {Kind: enginetest.NewSession}, {Kind: enginetest.DoubleFork}},
	}))
	report := enginetest.Inspect(t, p.handoff.URL)
	p.run.noting.Wait() // a dead process cannot be asked what it had mapped
	if err := syscall.Kill(report.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, p)
	for _, pid := range report.Children {
		if alive(pid) {
			t.Errorf("pid %d is alive", pid)
		}
	}
	nothingLeft(t, p)
	if _, err := os.Lstat("/dev/shm/enginetest-" + itoa(report.PID)); err == nil {
		t.Error("an object is left in /dev/shm")
	}
	if !strings.Contains(j.notes(), " outlived the engine") {
		t.Errorf("notes: %q", j.notes())
	}
}

// noticedContext tells when somebody begins to wait for its end.
type noticedContext struct {
	context.Context
	waiting chan<- struct{}
}

func (c noticedContext) Done() <-chan struct{} {
	c.waiting <- struct{}{}
	return c.Context.Done()
}

// An engine gets one SIGTERM, however often Stop is called: a second one makes llama-server drop everything.
func TestOneTermOnly(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{IgnoreTerm: true})
	cfg.Stop.Grace = settings.Duration(time.Minute)
	p, _ := ready(t, cfg)
	ctx := bounded(t)
	var stops sync.WaitGroup
	errs := make([]error, 4)
	waiting := make(chan struct{}, 10*len(errs))
	for i := range errs {
		stops.Go(func() { errs[i] = p.Stop(noticedContext{ctx, waiting}) })
	}
	for range errs { // until every one has signalled what it would
		<-waiting
	}
	eventually(t, "the engine got a signal", func() bool { return enginetest.Inspect(t, p.handoff.URL).Signals["SIGTERM"] > 0 })
	if got := enginetest.Inspect(t, p.handoff.URL).Signals["SIGTERM"]; got != 1 {
		t.Errorf("%d SIGTERMs", got)
	}
	if _, err := ReadHandoff(p.run.files.Handoff()); err == nil {
		t.Error("the handoff is there while the engine is being stopped")
	}
	if err := p.Kill(ctx); !errors.Is(err, ErrKilled) {
		t.Errorf("Kill: %v", err)
	}
	stops.Wait()
	for _, err := range errs {
		if !errors.Is(err, ErrKilled) {
			t.Errorf("Stop: %v", err)
		}
	}
	nothingLeft(t, p)
}

// A kill cuts the grace of a stop that is under way.
func TestKillCutsTheGrace(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{IgnoreTerm: true})
	cfg.Stop.Grace = settings.Duration(time.Minute)
	p, _ := ready(t, cfg)
	first := make(chan error)
	go func() { first <- p.Stop(context.Background()) }()
	eventually(t, "the first Stop is at work", func() bool { return p.Status().State == StateStopping })
	if err := p.Kill(bounded(t)); !errors.Is(err, ErrKilled) || !strings.Contains(err.Error(), "killed after the grace period of 1m0s was cut to ") {
		t.Errorf("Kill: %v", err)
	}
	if err := <-first; !errors.Is(err, ErrKilled) {
		t.Errorf("the first Stop: %v", err)
	}
}

// llama-server neither answers nor hangs up when it is told to end with a request in flight.
func TestStopWithARequestInFlight(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{BusyRequests: time.Hour})
	cfg.Ready.Answer = "off"
	cfg.Drain.Timeout = new(settings.Duration)
	cfg.Stop.Grace = settings.Duration(300 * time.Millisecond)
	p, _ := ready(t, cfg)
	conn := make(chan error)
	go func() {
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Post(p.handoff.URL+"/completion", "application/json", strings.NewReader(`{"prompt":"x"}`))
		if err == nil {
			resp.Body.Close()
		}
		conn <- err
	}()
	eventually(t, "the engine is busy", func() bool {
		ask := probe.New("127.0.0.1", cfg.Port, secret.Text{}, patience)
		a, err := ask.Get(context.Background(), "/metrics", probe.MaxMetricsBody)
		return err == nil && strings.Contains(string(a.Body), "llamacpp:requests_processing 1")
	})
	if err := p.Stop(bounded(t)); !errors.Is(err, ErrKilled) {
		t.Errorf("Stop: %v", err)
	}
	if err := <-conn; err == nil {
		t.Error("the request got an answer")
	}
	nothingLeft(t, p)
}

func TestStopWhileLoadingDiesByTheSignal(t *testing.T) {
	t.Parallel()
	p, _ := started(t, fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour}))
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
	if s := p.Status(); s.State != StateStopped || s.PID != 0 {
		t.Errorf("%+v", s)
	}
	if rec, err := readRecord(p.run.files); err != nil || rec.Exit != "signal: terminated" {
		t.Errorf("exit %q (%v)", rec.Exit, err)
	}
}

// A process with another launch's mark, or none, is never touched.
func TestStrangersAreSpared(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "600")
	cmd.Env = append(os.Environ(), proc.MarkEnv+"=0123456789abcdef0123456789abcdef")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}))
	if err := p.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if !alive(cmd.Process.Pid) {
		t.Error("a stranger was killed")
	}
}

// A process that survives SIGKILL is not "stopped".
func TestUnkillable(t *testing.T) {
	freezer := newFreezer(t)
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Stop.Grace = settings.Duration(50 * time.Millisecond)
	cfg.Drain.Timeout = new(settings.Duration)
	p, _ := ready(t, cfg)
	p.run.killTimeout = 300 * time.Millisecond
	freezer.freeze(t, p.Status().PID)
	err := p.Stop(bounded(t))
	if !errors.Is(err, ErrUnkillable) {
		t.Fatalf("Stop: %v", err)
	}
	wantText(t, err, "pid "+itoa(p.Status().PID))
	if s := p.Status().State; s != StateStopping {
		t.Errorf("state %s", s)
	}
	freezer.thaw(t)
	awaitDone(t, p)
	nothingLeft(t, p)
}

// Workers that end by themselves right after the engine are let go, and not told of; who stays is ended all the same.
func TestStopLetsWorkersLeave(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		child enginetest.Child
		time  time.Duration
		note  string
	}{
		"leaves": {enginetest.Child{Outlives: 50 * time.Millisecond, Kind: enginetest.OwnGroup}, patience, ""},
		"stays":  {enginetest.Child{Outlives: time.Minute, Kind: enginetest.OwnGroup}, time.Millisecond, "killed 1 process that has outlived the engine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, j := ready(t, fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{c.child}}))
			worker := enginetest.Inspect(t, p.handoff.URL).Children[0]
			p.run.leaveTime = c.time
			if err := p.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
			if alive(worker) {
				t.Error("the worker is alive")
			}
			if notes := j.notes(); notes != c.note {
				t.Errorf("notes: %q, want %q", notes, c.note)
			}
			nothingLeft(t, p)
		})
	}
}
