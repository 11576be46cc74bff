// Package conformance runs the main job with one engine: start, readiness, handoff, metrics, version, drain, stop, crash,
// adoption, and after each of them the proof that nothing is left.
//
// It is for programs that add an engine of their own with provisioner.WithEngine, and for engines that run from a
// configuration alone. The built-in engines are held to it as well.
//
//	func TestConformance(t *testing.T) {
//		conformance.Test(t, conformance.Subject{
//			Engine: myEngine{},
//			Config: func(t testing.TB, pace conformance.Pace) provisioner.ProvisionConfig { … },
//		})
//	}
//
// It fails on an engine that is not pure (by the environment, files, its own memory or several callers at once; run it with
// -race), on problems without a key, and on pages and gauges that are not there. Besides, compare what your Engine's Launch returns in a table test: it is data, and needs no process to be tested.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
)

// Subject is an engine to be tested.
type Subject struct {
	// Config describes a replica of the engine with a pool's and replica's name, a port (see enginetest.FreePort) and a
	// state directory of its own. It is called for each launch.
	Config func(t testing.TB, pace Pace) provisioner.ProvisionConfig
	// Engine is the engine itself, if it is one of your own: it is added to Options, and besides, what it describes is looked at: that
	// its functions are pure and can be called at once, how it refuses, and whether the pages that it names are there.
	Engine provisioner.Engine
	// Wrong make wrong requests of a right one. Engine must refuse each.
	Wrong []func(*engine.Request)
	// Options are passed to the provisioner.
	Options []provisioner.Option
	// Version is the engine_version that the handoff must name; "" leaves it open.
	Version string
	// Gauge is a series on the page /metrics that counts requests being answered, over all its labels. "" means that
	// there is none, and leaves out the part on the drain.
	Gauge string
	// Path and Body are a completion request that a replica with the pace SlowAnswer takes some time for. "" leaves out
	// the part on the drain.
	Path, Body string
	// Workers says that the engine cannot live without its other processes: the youngest is killed in a part of its own.
	Workers bool
	// Patience bounds each wait; 0 means two minutes. Let it be more than twice the engine's start.
	Patience time.Duration
}

// Pace is what a part of the suite needs to see.
type Pace string

// The paces. An engine that cannot be made slow may be as quick as it is: less is seen then.
const (
	Quick      Pace = "quick"
	SlowLoad   Pace = "slow load"   // still loads when it is stopped, a moment after its start
	SlowAnswer Pace = "slow answer" // needs a second or so for the request
)

// Test runs all parts of the suite as parallel subtests of t.
func Test(t *testing.T, s Subject) {
	t.Helper()
	if s.Patience == 0 {
		s.Patience = 2 * time.Minute
	}
	if s.Engine != nil {
		if file := os.Getenv(elsewhere); file != "" {
			describeElsewhere(t, s.Engine, file)
		}
		s.Options = append(slices.Clip(s.Options), provisioner.WithEngine(s.Engine))
	}
	for _, part := range []struct {
		name  string
		run   func(*testing.T, Subject)
		apart bool // not for this engine
	}{
		{name: descriptionPart, run: description, apart: s.Engine == nil},
		{name: "life", run: life},
		{name: "stop while loading", run: stopWhileLoading},
		{name: "crash", run: crash},
		{name: "worker crash", run: workerCrash, apart: !s.Workers},
		{name: "orphans", run: orphans},
		{name: "drain", run: drain, apart: s.Gauge == "" || s.Path == ""},
		{name: "port in use", run: portInUse},
		{name: "adoption", run: adoption},
	} {
		if part.apart {
			continue
		}
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.run(t, s)
		})
	}
}

// descriptionPart is the name of the part that starts this program again.
const descriptionPart = "description"

// life starts two replicas side by side, looks at one, and stops them.
func life(t *testing.T, s Subject) {
	spy := &observed{Engine: s.Engine}
	if s.Engine != nil {
		s.Options = append(slices.Clip(s.Options), provisioner.WithEngine(spy))
	}
	l, other := s.ready(t, Quick), s.ready(t, Quick)
	h, err := provisioner.ReadHandoff(l.handoffPath())
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("http://127.0.0.1:%d", l.cfg.Port)
	if h.URL != want || h.Engine != l.cfg.Engine || h.PoolID != l.cfg.PoolID || h.ReplicaID != l.cfg.ReplicaID || h.Model.ID != l.cfg.Model.ID {
		t.Errorf("the handoff says %+v, want %s and the configured names", h, want)
	}
	if s.Version != "" && h.EngineVersion != s.Version {
		t.Errorf("version %q, want %q", h.EngineVersion, s.Version)
	}
	if s.Path != "" && h.Answer != "ok" {
		t.Errorf("the answer proof found %q", h.Answer)
	}
	if n, found := l.gauge(t); s.Gauge != "" && (n != 0 || !found) {
		t.Errorf("the gauge %q counts %v requests, and there is none (on the page: %v)", s.Gauge, n, found)
	}
	if s.Engine != nil {
		_, spec := spy.seen()
		l.promises(t, spec)
	}
	l.stop(t)
	other.stop(t)
	shows := "start,ready,stop"
	if h.Answer == "ok" {
		shows += ",token"
	}
	if s.Gauge != "" {
		shows += ",metrics"
	}
	l.proves(t, shows)
}

// stopWhileLoading may need force: not every engine hears SIGTERM while it loads.
func stopWhileLoading(t *testing.T, s Subject) {
	l := s.start(t, SlowLoad)
	l.see()
	if s.Workers {
		l.eventually(t, "it has other processes", func() bool { l.see(); return len(l.tree) > 1 })
	}
	if err := l.p.Stop(l.bounded(t)); err != nil && !errors.Is(err, provisioner.ErrKilled) {
		t.Errorf("Stop: %v", err)
	}
	l.nothingLeft(t)
}

// crash kills the engine's first process.
func crash(t *testing.T, s Subject) {
	l := s.ready(t, Quick)
	kill(t, l.p.Status().PID)
	l.failed(t)
	l.proves(t, "crash")
}

// workerCrash kills the engine's youngest process. Whatever the exit status, the end that follows is a failure.
func workerCrash(t *testing.T, s Subject) {
	l := s.ready(t, Quick)
	if len(l.tree) < 2 {
		t.Fatalf("the engine has the processes %v", l.tree)
	}
	kill(t, l.youngest())
	l.failed(t)
}

// orphans kills the first process while no provisioner watches. Whoever comes next finds the others.
func orphans(t *testing.T, s Subject) {
	l := s.ready(t, Quick)
	l.p.Release()
	kill(t, l.p.Status().PID)
	l.reap()
	later, err := provisioner.Attach(l.cfg.StateDir, l.cfg.ID(), l.options...)
	switch {
	case err == nil:
		err = later.Stop(l.bounded(t))
	case errors.Is(err, provisioner.ErrNotRunning): // there were no others, and Attach has cleared the rest away
		err = nil
	}
	if err != nil && !errors.Is(err, provisioner.ErrKilled) {
		t.Error(err)
	}
	l.nothingLeft(t)
}

// drain stops the engine with a request in flight, which must be answered in full.
func drain(t *testing.T, s Subject) {
	l := s.ready(t, SlowAnswer)
	answered := make(chan string, 1)
	go func() { answered <- l.ask() }()
	l.eventually(t, fmt.Sprintf("the gauge %q counts a request in flight", s.Gauge), func() bool { n, _ := l.gauge(t); return n > 0 })
	l.stop(t)
	if problem := <-answered; problem != "" {
		t.Errorf("the request in flight: %s", problem)
	}
	l.proves(t, "drain")
}

// portInUse must be found before the engine has loaded anything.
func portInUse(t *testing.T, s Subject) {
	cfg := s.Config(t, Quick)
	cfg.Port = enginetest.Stranger(t)
	l := s.launch(t, cfg)
	err := l.p.Start(l.bounded(t))
	var start *provisioner.StartError
	if !errors.As(err, &start) || start.Cause != engine.CausePortInUse {
		t.Errorf("Start: %v", err)
	}
}

// adoption loses the provisioner; the next one goes on with the engine, and stops it.
func adoption(t *testing.T, s Subject) {
	l := s.ready(t, Quick)
	pid := l.p.Status().PID
	l.p.Release()
	var reaping sync.WaitGroup
	reaping.Go(l.reap) // the engine is this process's child, and its adopter does not know
	defer reaping.Wait()
	adopted, found, err := provisioner.Recover(l.bounded(t), l.cfg.StateDir, l.options...)
	if err != nil || len(adopted) != 1 {
		kill(t, pid)
		t.Fatalf("recovered %+v (%v)", found, err)
	}
	if now := adopted[0].Status(); now.PID != pid || now.State != provisioner.StateReady {
		t.Errorf("adopted %+v", now)
	}
	l.p = adopted[0]
	l.stop(t)
	l.proves(t, "adopt")
}

// launch is one launch of the subject.
type launch struct {
	Subject
	cfg     provisioner.ProvisionConfig
	options []provisioner.Option
	p       *provisioner.EngineProvisioner
	tree    []process // as last seen
	tempDir string    // the launch's own
	version string    // as the handoff told it
}

func (s Subject) launch(t *testing.T, cfg provisioner.ProvisionConfig) *launch {
	t.Helper()
	l := &launch{Subject: s, cfg: cfg, options: append([]provisioner.Option{provisioner.WithCacheDir(t.TempDir())}, s.Options...)}
	var err error
	if l.p, err = provisioner.New(cfg, l.options...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.p.Kill(context.Background()) // for tests that failed half-way
	})
	return l
}

func (s Subject) start(t *testing.T, pace Pace) *launch {
	t.Helper()
	l := s.launch(t, s.Config(t, pace))
	if err := l.p.Start(l.bounded(t)); err != nil {
		t.Fatal(err)
	}
	return l
}

func (s Subject) ready(t *testing.T, pace Pace) *launch {
	t.Helper()
	l := s.start(t, pace)
	if _, err := l.p.WaitReady(l.bounded(t)); err != nil {
		t.Fatal(err)
	}
	l.see()
	l.version = l.p.Status().Version
	return l
}

// stop stops an engine that is ready, which must do without force.
func (l *launch) stop(t *testing.T) {
	t.Helper()
	if err := l.p.Stop(l.bounded(t)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	l.nothingLeft(t)
}

// failed waits for the end that was not asked for.
func (l *launch) failed(t *testing.T) {
	t.Helper()
	select {
	case <-l.p.Done():
	case <-time.After(l.Patience):
		t.Fatalf("still %s", l.p.Status().State)
	}
	var exit *provisioner.ExitError
	if err := l.p.Err(); !errors.As(err, &exit) {
		t.Errorf("Err: %v", err)
	}
	l.nothingLeft(t)
}

// reap waits for the engine's first process, where no provisioner does.
func (l *launch) reap() {
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(l.tree[0].pid, &status, 0, nil); !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// ask sends the subject's request, and says what is wrong with the answer.
func (l *launch) ask() string {
	resp, err := l.client().Post(l.p.Status().URL+l.Path, "application/json", strings.NewReader(l.Body))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Sprintf("%s: %s (%v)", resp.Status, body, err)
	}
	return ""
}

// gauge is how many requests the engine says are being answered.
func (l *launch) gauge(t *testing.T) (sum float64, found bool) {
	t.Helper()
	if l.Gauge == "" {
		return 0, false
	}
	resp, err := l.client().Get(l.p.Status().URL + "/metrics")
	if err != nil {
		t.Errorf("cannot read the metrics: %v", err)
		return 0, false
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("cannot read the metrics: %v", err)
	}
	for _, m := range sampleOf(l.Gauge).FindAllSubmatch(page, -1) {
		n, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Errorf("%s: %v", l.Gauge, err)
		}
		sum, found = sum+n, true
	}
	return sum, found
}

// sampleOf finds the samples of a series on a page, with their values.
func sampleOf(series string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + `(?:\{.*\})? (\S+)`)
}

func (l *launch) client() *http.Client {
	return &http.Client{Timeout: l.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
}

func (l *launch) bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), l.Patience)
	t.Cleanup(cancel)
	return ctx
}

func (l *launch) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(l.Patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func (l *launch) handoffPath() string {
	return filepath.Join(l.cfg.StateDir, "engines", l.cfg.PoolID+"-"+l.cfg.ReplicaID+".json")
}
