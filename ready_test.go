package provisioner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/settings"
)

// An engine that is not fit is never called ready, whatever it says, and it is stopped.
func TestNotReady(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		behavior enginetest.Behavior
		ready    settings.Ready
		cause    engine.Cause
		text     []string
	}{
		"loads too long": {
			behavior: enginetest.Behavior{LoadTime: time.Hour}, ready: settings.Ready{Timeout: settings.Duration(time.Second)}, cause: engine.CauseUnknown,
			text: []string{"the load took too long: more than 1s", `raise "ready.timeout"`},
		},
		"stalls": {
			behavior: enginetest.Behavior{LoadTime: time.Hour}, ready: settings.Ready{Stall: settings.Duration(500 * time.Millisecond)}, cause: engine.CauseUnknown,
			text: []string{"no progress for 500ms", `raise "ready.stall"`},
		},
		"redirects":         {behavior: enginetest.Behavior{Redirect: "http://192.0.2.1/"}, cause: engine.CauseUnknown, text: []string{"/health answers 302 Found"}},
		"no health":         {behavior: enginetest.Behavior{HealthStatus: 404}, cause: engine.CauseUnknown, text: []string{"/health answers 404 Not Found"}},
		"another model":     {behavior: enginetest.Behavior{PropsModel: "/models/other.gguf"}, cause: engine.CauseUnknown, text: []string{`serves another model: "/models/other.gguf"`}},
		"metrics 501":       {behavior: enginetest.Behavior{Metrics: enginetest.MetricsOff}, cause: engine.CauseUnknown, text: []string{"switched off in the engine (501)"}},
		"metrics 404":       {behavior: enginetest.Behavior{Metrics: enginetest.MetricsNotFound}, cause: engine.CauseUnknown, text: []string{"does not exist (404)"}},
		"metrics malformed": {behavior: enginetest.Behavior{Metrics: enginetest.MetricsMalformed}, cause: engine.CauseUnknown, text: []string{"not valid Prometheus text"}},
		"metrics lacking":   {behavior: enginetest.Behavior{Metrics: enginetest.MetricsMissingSeries}, cause: engine.CauseUnknown, text: []string{`lacks the series "llamacpp:requests_processing"`}},
		// How much of it arrives before the time is up depends on the machine; that it ends does not.
		"metrics huge": {behavior: enginetest.Behavior{Metrics: enginetest.MetricsHuge}, cause: engine.CauseUnknown, text: []string{"/metrics"}},
		"answers 500":  {behavior: enginetest.Behavior{AnswerStatus: 500}, cause: engine.CauseCannotAnswer, text: []string{"the first token failed: /completion answers 500", "[cannot_answer]"}},
		"answer cut":   {behavior: enginetest.Behavior{Answer: enginetest.AnswerCut}, cause: engine.CauseCannotAnswer, text: []string{"the connection broke on the first token"}},
		"never answers": {
			behavior: enginetest.Behavior{Answer: enginetest.AnswerHang}, ready: settings.Ready{Stall: settings.Duration(500 * time.Millisecond)}, cause: engine.CauseUnknown,
			text: []string{"no progress"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, test.behavior)
			cfg.Stop.Grace, cfg.Ready = settings.Duration(time.Second), test.ready
			p, j := started(t, cfg)
			_, err := p.WaitReady(bounded(t))
			var notReady *NotReadyError
			if !errors.As(err, &notReady) {
				t.Fatalf("%T: %v", err, err)
			}
			if notReady.Cause != test.cause || notReady.LogPath == "" {
				t.Errorf("%+v", notReady)
			}
			wantText(t, err, append(test.text, "pool/r0: not ready after ")...)
			wantStates(t, j, StatePreparing, StateStarting, StateStopping, StateFailed)
			if !errors.As(p.Err(), &notReady) {
				t.Errorf("Err is %v", p.Err())
			}
			nothingLeft(t, p)
		})
	}
}

// What does not answer 200 in full and in time is not ready, however it goes about it. The caller gives up as soon as
// the answer was heard: with a time limit, a busy machine would decide what was heard last.
func TestNeverHealthy(t *testing.T) {
	t.Parallel()
	const quick = settings.Duration(200 * time.Millisecond)
	tests := map[string]struct {
		behavior enginetest.Behavior
		timeout  settings.Duration // of a request; an engine that is silent on purpose need not be waited for as long as a slow one
		heard    string
	}{
		"never listens":         {behavior: enginetest.Behavior{Bind: enginetest.BindNever}, heard: "connect: connection refused"},
		"listens elsewhere":     {behavior: enginetest.Behavior{Bind: enginetest.BindOther}, heard: "connect: connection refused"},
		"loads":                 {behavior: enginetest.Behavior{LoadTime: time.Hour}, heard: "503 Service Unavailable: Loading model"},
		"accepts and is silent": {behavior: enginetest.Behavior{Health: enginetest.AcceptOnly}, timeout: quick, heard: "no answer in time"},
		"dribbles headers":      {behavior: enginetest.Behavior{Health: enginetest.DribbleHeader}, timeout: quick, heard: "no answer in time"},
		"dribbles the body":     {behavior: enginetest.Behavior{Health: enginetest.DribbleBody}, timeout: quick, heard: "200 OK, no answer in time"},
		"floods with 1xx":       {behavior: enginetest.Behavior{Health: enginetest.Flood1xx}, heard: "headers exceeded 65536 bytes"},
		"endless headers":       {behavior: enginetest.Behavior{Health: enginetest.EndlessHeaders}, heard: "headers exceeded 65536 bytes"},
		"endless body":          {behavior: enginetest.Behavior{Health: enginetest.EndlessBody}, heard: "200 OK, the answer is larger than 65536 bytes"},
		"gzip bomb":             {behavior: enginetest.Behavior{Health: enginetest.GzipBomb}, heard: "200 OK, the answer is larger than 65536 bytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, test.behavior)
			cfg.Ready.RequestTimeout = test.timeout
			p, j := started(t, cfg)
			ctx, giveUp := context.WithCancel(bounded(t))
			waited := make(chan error)
			go func() {
				_, err := p.WaitReady(ctx)
				waited <- err
			}()
			eventually(t, "the answer is heard: "+test.heard, func() bool { return strings.Contains(p.Status().Heard, test.heard) })
			giveUp()
			err := <-waited
			var notReady *NotReadyError
			if !errors.As(err, &notReady) || !errors.Is(err, context.Canceled) {
				t.Fatalf("%T: %v", err, err)
			}
			wantText(t, err, "pool/r0: not ready after ", "last answer: ")
			wantStates(t, j, StatePreparing, StateStarting)
			if err := p.Stop(bounded(t)); err != nil {
				t.Errorf("Stop: %v", err)
			}
			nothingLeft(t, p)
		})
	}
}

// An engine that is slow for a while, in whatever it is asked, is waited for like one that loads.
func TestSlowPagesAreAskedForAgain(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{DeafFirst: 2})
	cfg.Ready.RequestTimeout = settings.Duration(200 * time.Millisecond)
	p, _ := started(t, cfg)
	heard := map[string]bool{}
	done := make(chan error, 1)
	go func() {
		_, err := p.WaitReady(bounded(t))
		done <- err
	}()
	for waiting := true; waiting; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			waiting = false
		case <-time.After(time.Millisecond):
			heard[p.Status().Heard] = true
		}
	}
	for _, page := range []string{"/props", "/metrics"} {
		if !heard["cannot read "+page+": no answer in time"] {
			t.Errorf("nobody was told that %s does not answer: %v", page, heard)
		}
	}
	if now := p.Status(); now.State != StateReady || now.Heard != "200 OK" {
		t.Errorf("%+v", now)
	}
}

// A question for the first token that gets lost is asked again once the engine is seen to be idle, and somebody is told.
func TestLostTokenIsAskedForAgain(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{LoseFirst: 2})
	cfg.Ready.RequestTimeout = settings.Duration(100 * time.Millisecond)
	p, j := ready(t, cfg)
	if p.handoff.Answer != answerOK || strings.Count(j.notes(), "no first token came for 400ms, and the engine does nothing; asking again") != 2 {
		t.Errorf("answer %q, notes %q", p.handoff.Answer, j.notes())
	}
	if heard := p.Status().Heard; heard != "200 OK" {
		t.Errorf("heard %q", heard)
	}
}

// One that never answers has until the deadline.
func TestPageThatNeverAnswers(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{DeafFirst: 1000})
	cfg.Ready = settings.Ready{RequestTimeout: settings.Duration(100 * time.Millisecond), Timeout: settings.Duration(3 * time.Second)}
	cfg.Stop.Grace = settings.Duration(time.Second)
	p, _ := started(t, cfg)
	_, err := p.WaitReady(bounded(t))
	wantText(t, err, "the load took too long: more than 3s", "last answer: cannot read /props: no answer in time")
	nothingLeft(t, p)
}

func TestDeathWhileLoading(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		behavior enginetest.Behavior
		cause    engine.Cause
		code     int
		text     []string
	}{
		"exit": {
			behavior: enginetest.Behavior{LoadTime: time.Hour, DieLoading: &enginetest.Death{
				After: 30 * time.Millisecond, Code: 1,
				Stderr: "gguf_init_from_file: failed to open GGUF file '/m.gguf' (No such file or directory)\nsrv: exiting due to model loading error\n",
			}},
			cause: engine.CauseModelMissing, code: 1, text: []string{"while loading", "No such file or directory"},
		},
		"before it listens": {
			behavior: enginetest.Behavior{Bind: enginetest.BindNever, DieLoading: &enginetest.Death{Code: 1, Stderr: "error: invalid argument: --bogus\n"}},
			cause:    engine.CauseBadFlag, code: 1, text: []string{"--bogus"},
		},
		"bind": {behavior: enginetest.Behavior{Bind: enginetest.BindFail}, cause: engine.CausePortInUse, code: 1, text: []string{"couldn't bind"}},
		"on the first token": {
			behavior: enginetest.Behavior{Answer: enginetest.AnswerDie}, cause: engine.CauseCannotAnswer, code: -1, text: []string{"illegal instruction"},
		},
		// As by an engine whose memory is being dumped, and on a busy machine.
		"some time after it hung up": {
			behavior: enginetest.Behavior{Answer: enginetest.AnswerCut, DieReady: &enginetest.Death{
				After: 400 * time.Millisecond, Code: 1, Stderr: "ggml_cuda: allocating 512.00 MiB on device 0: cudaMalloc failed: out of memory\n",
			}},
			cause: engine.CauseOOMGPU, code: 1, text: []string{"while loading", "[oom_gpu]"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, j := started(t, fakeConfig(t, test.behavior))
			_, err := p.WaitReady(bounded(t))
			var exit *ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("%T: %v", err, err)
			}
			if exit.Cause != test.cause || exit.Code != test.code || exit.Ready {
				t.Errorf("%+v", exit)
			}
			wantText(t, err, test.text...)
			wantStates(t, j, StatePreparing, StateStarting, StateFailed)
			nothingLeft(t, p)
		})
	}
}

// The port check before the start cannot see who comes between it and the engine's bind.
func TestStrangerOnThePort(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{Bind: enginetest.BindNever})
	p, _ := started(t, cfg)
	stranger := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	stranger.Listener.Close()
	stranger.Listener = listen(t, cfg.Port)
	stranger.Start()
	t.Cleanup(stranger.Close)
	_, err := p.WaitReady(bounded(t))
	var notReady *NotReadyError
	if !errors.As(err, &notReady) || notReady.Cause != engine.CausePortInUse {
		t.Fatalf("%v", err)
	}
	wantText(t, err, "another process answers on port")
	if problem := port.Holder("127.0.0.1", cfg.Port, ourEngine); problem == "" {
		t.Error("the stranger is gone")
	}
	stranger.Close()
}

func TestCallerGivesUpButTheLoadGoesOn(t *testing.T) {
	t.Parallel()
	p, _ := started(t, fakeConfig(t, enginetest.Behavior{}))
	// Suspended, it cannot become ready before the caller gives up, however slow this test is.
	if err := p.run.host().Leader.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := p.WaitReady(short)
	var notReady *NotReadyError
	if !errors.As(err, &notReady) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%T: %v", err, err)
	}
	if err := p.run.host().Leader.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := p.WaitReady(bounded(t)); err != nil {
		t.Error(err)
	}
}

func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	p, j := started(t, fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour}))
	waited := make(chan error)
	go func() {
		_, err := p.WaitReady(bounded(t))
		waited <- err
	}()
	eventually(t, "the engine says that it loads", func() bool { return strings.Contains(p.Status().Heard, "Loading model") })
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	err := <-waited
	var notReady *NotReadyError
	if !errors.Is(err, ErrStopped) || !errors.As(err, &notReady) || len(notReady.LogTail) > 0 || notReady.Last != "" {
		t.Errorf("WaitReady: %v", err)
	}
	wantStates(t, j, StatePreparing, StateStarting, StateStopping, StateStopped)
	nothingLeft(t, p)
}

func TestConcurrentWaiters(t *testing.T) {
	t.Parallel()
	p, j := started(t, fakeConfig(t, enginetest.Behavior{LoadTime: 100 * time.Millisecond}))
	errs := make(chan error)
	for range 4 {
		go func() {
			_, err := p.WaitReady(bounded(t))
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for range 100 { // a select between two that are ready would choose either
		if h, err := p.WaitReady(gone()); err != nil || h.Process == nil {
			t.Fatalf("a ready launch and an ended context: %+v, %v", h, err)
		}
	}
	wantStates(t, j, StatePreparing, StateStarting, StateReady)
}

// A load that moves may take longer than the stall limit. The limit is long, since a busy machine may leave an engine
// without a CPU for a second.
func TestProgressExtendsTheStallLimit(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{LoadTime: 4 * time.Second, StallLog: 50 * time.Millisecond})
	cfg.Ready.Stall = settings.Duration(3 * time.Second)
	ready(t, cfg)
}

// Somebody who holds a loading engine, such as a debugger, has all the time.
func TestSuspendedLoad(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{LoadTime: 800 * time.Millisecond}) // most of it is still to come when it goes on, and silent
	cfg.Ready.Stall = settings.Duration(2 * time.Second)
	p, _ := started(t, cfg)
	pid := p.Status().PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := time.AfterFunc(2*time.Duration(cfg.Ready.Stall), func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	defer goOn.Stop()
	if _, err := p.WaitReady(bounded(t)); err != nil {
		t.Error(err)
	}
}

func TestAnswerProof(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 501} {
		t.Run("not offered "+itoa(status), func(t *testing.T) {
			t.Parallel()
			p, j := ready(t, fakeConfig(t, enginetest.Behavior{AnswerStatus: status}))
			if p.handoff.Answer != answerNotOffered || !strings.Contains(j.notes(), "offers no completions") {
				t.Errorf("answer %q, notes %q", p.handoff.Answer, j.notes())
			}
		})
	}
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, enginetest.Behavior{Answer: enginetest.AnswerDie})
		cfg.Ready.Answer = "off"
		p, _ := ready(t, cfg)
		if p.handoff.Answer != answerOff {
			t.Errorf("answer %q", p.handoff.Answer)
		}
	})
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, enginetest.Behavior{BusyRequests: 2500 * time.Millisecond})
		cfg.Ready.RequestTimeout = settings.Duration(2 * time.Second) // bounds probes, not the first token
		p, _ := ready(t, cfg)
		if p.handoff.Answer != answerOK {
			t.Errorf("answer %q", p.handoff.Answer)
		}
	})
}

func TestVersionDisagreement(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{PropsBuild: "b12000-Other"})
	cache := t.TempDir()
	p, j := ready(t, cfg, WithCacheDir(cache))
	if p.handoff.EngineVersion != "b12000-Other" {
		t.Errorf("version %q", p.handoff.EngineVersion)
	}
	if !strings.Contains(j.notes(), `says version "b12000-Other", its executable said "b11669-Fake"`) {
		t.Errorf("notes %q", j.notes())
	}
	if facts, _ := filepath.Glob(filepath.Join(cache, "binaries", "facts-*")); len(facts) > 0 {
		t.Errorf("stale facts kept: %v", facts)
	}
}

// GPUs as a driver would tell, with the memory of this launch's processes in it.
type stubGPUs struct {
	gpus   []engine.GPU
	err    error
	memory func() map[int]uint64
}

func (f stubGPUs) GPUs() ([]gpu.Device, error) { return f.gpus, f.err }
func (f stubGPUs) Processes([]int) ([]gpu.Holding, error) {
	if f.memory == nil {
		return []gpu.Holding{{PID: 1, Bytes: 1 << 30}}, nil
	}
	return holdings(f.memory()), nil
}

func withGPUs(d gpu.Driver) Option { return func(o *options) { o.Hooks.GPUs = d } }

func TestGPURequired(t *testing.T) {
	t.Parallel()
	gpus := []engine.GPU{{Index: 0, UUID: "GPU-aaaa", MemoryTotal: 8 << 30, MemoryFree: 8 << 30}, {Index: 1, UUID: "GPU-bbbb"}}
	onGPU := enginetest.Behavior{LogText: "load_tensors: offloaded 33/33 layers to GPU\n"}
	t.Run("used", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, onGPU)
		cfg.GPU, cfg.Devices = "", []settings.Device{"1"}
		p, _ := ready(t, cfg, withGPUs(stubGPUs{gpus: gpus}))
		if len(p.handoff.Devices) != 1 || p.handoff.Devices[0] != "GPU-bbbb" {
			t.Errorf("devices %v", p.handoff.Devices)
		}
		env := strings.Join(enginetest.Inspect(t, p.handoff.URL).Env, "\n")
		for _, want := range []string{"CUDA_VISIBLE_DEVICES=GPU-bbbb", "CUDA_DEVICE_ORDER=PCI_BUS_ID"} {
			if !strings.Contains(env, want) {
				t.Errorf("no %s in the environment", want)
			}
		}
	})
	t.Run("silent fallback", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, enginetest.Behavior{LogText: "warning: no usable GPU found, --gpu-layers option will be ignored\n"})
		cfg.GPU = engine.GPURequired
		p, j := started(t, cfg, withGPUs(stubGPUs{gpus: gpus}))
		_, err := p.WaitReady(bounded(t))
		var gpu *GPUError
		if !errors.As(err, &gpu) {
			t.Fatalf("%T: %v", err, err)
		}
		wantText(t, err, "back to the CPU: ") // whoever sees it first, the watch of the load or the proof
		wantStates(t, j, StatePreparing, StateStarting, StateStopping, StateFailed)
		nothingLeft(t, p)
	})
	t.Run("fallback during a long load", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, enginetest.Behavior{
			LoadTime: time.Hour, LogText: "warning: no usable GPU found, --gpu-layers option will be ignored\n",
		})
		cfg.GPU = engine.GPURequired
		p, _ := started(t, cfg, withGPUs(stubGPUs{gpus: gpus}))
		_, err := p.WaitReady(bounded(t))
		var gpu *GPUError
		if !errors.As(err, &gpu) {
			t.Fatalf("%T: %v", err, err)
		}
		wantText(t, err, "the engine falls back to the CPU", "no usable GPU found")
		nothingLeft(t, p)
	})
	t.Run("fallback in a long line with a secret", func(t *testing.T) {
		t.Parallel()
		const canary = "canary-in-the-log"
		cfg := fakeConfig(t, enginetest.Behavior{LogText: strings.Repeat("x", 100_000) + canary + " no usable GPU found\n"})
		cfg.GPU = engine.GPURequired
		file := filepath.Join(cfg.Dir, "secret")
		if err := os.WriteFile(file, []byte(canary), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.APIKey = &settings.SecretRef{FromFile: file}
		p, _ := started(t, cfg, withGPUs(stubGPUs{gpus: gpus}))
		_, err := p.WaitReady(bounded(t))
		wantText(t, err, redact.Word+" no usable GPU found")
		if text := err.Error(); len(text) > 2000 || strings.Contains(text, canary) {
			t.Errorf("%d bytes: %.300s…", len(text), text)
		}
	})
	t.Run("absent", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, onGPU)
		cfg.GPU, cfg.Devices = engine.GPURequired, []settings.Device{"5"}
		p, j := newLaunch(t, cfg, withGPUs(stubGPUs{gpus: gpus}))
		err := p.Start(bounded(t))
		var gpu *GPUError
		if !errors.As(err, &gpu) || gpu.Device != "5" {
			t.Fatalf("%T: %v", err, err)
		}
		wantStates(t, j, StatePreparing, StateFailed)
	})
	t.Run("optional", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, enginetest.Behavior{})
		cfg.GPU = engine.GPUOptional
		p, _ := ready(t, cfg, withGPUs(stubGPUs{err: errors.New("no driver")}))
		if p.handoff.Devices != nil {
			t.Errorf("devices %v", p.handoff.Devices)
		}
	})
}

func TestProbeInterval(t *testing.T) {
	t.Parallel()
	for elapsed, want := range map[time.Duration]time.Duration{
		0: 2 * time.Millisecond, 100 * time.Millisecond: 2 * time.Millisecond, time.Second: 10 * time.Millisecond,
		10 * time.Second: 100 * time.Millisecond, time.Hour: 250 * time.Millisecond,
	} {
		if got := probe.Interval(elapsed); got != want {
			t.Errorf("after %s: %s, want %s", elapsed, got, want)
		}
	}
}

// The number of questions is that of the rule, in synthetic time: an hour's load is asked for 250 ms apart.
func TestAwaitHealthyAsksByTheRule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		start := time.Now()
		ask := probe.New("127.0.0.1", 1, secret.Text{}, time.Second)
		ask.Client.Transport = cannedAnswers(func(*http.Request) (*http.Response, error) {
			asked.Add(1)
			if time.Since(start) < time.Hour {
				return nil, syscall.ECONNREFUSED
			}
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})
		if err := ask.AwaitHealthy(t.Context(), "/health", 0, start, func(string) {}); err != nil {
			t.Fatal(err)
		}
		if late := time.Since(start) - time.Hour; late > 250*time.Millisecond {
			t.Errorf("seen %s late", late)
		}
		if n := asked.Load(); n < 14000 || n > 15500 {
			t.Errorf("asked %d times", n)
		}
	})
}

type cannedAnswers func(*http.Request) (*http.Response, error)

func (f cannedAnswers) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A secret never appears in what we write or say: argv, logs of errors, record, handoff, events.
func TestSecretsStaySecret(t *testing.T) {
	const canary = "canary-7f3a+/= secret"
	t.Setenv("TEST_API_KEY", canary)
	t.Setenv("TEST_OTHER", "other-"+canary)
	cfg := fakeConfig(t, enginetest.Behavior{LogSecret: true, LogEnv: true})
	cfg.APIKey = &settings.SecretRef{FromEnv: "TEST_API_KEY"}
	cfg.Env = map[string]settings.EnvValue{"HUB_PASSWORD": {Secret: &settings.SecretRef{FromEnv: "TEST_OTHER"}}}
	cache := t.TempDir()
	p, j := ready(t, cfg, WithCacheDir(cache))
	if p.handoff.Auth == nil || p.handoff.Auth.FromEnv != "TEST_API_KEY" {
		t.Errorf("auth %+v", p.handoff.Auth)
	}
	if status := statusAt(t, p.handoff.URL+"/props"); status != http.StatusUnauthorized {
		t.Errorf("/props without the key: %d", status)
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.handoff.Process.PID))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(cmdline), canary) {
		t.Error("the canary is in argv")
	}
	plan, err := planOf(bounded(t), cfg, WithCacheDir(cache))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.handoff.Process.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, p)
	var exit *ExitError
	if !errors.As(p.Err(), &exit) {
		t.Fatalf("%v", p.Err())
	}
	if !strings.Contains(strings.Join(exit.LogTail, "\n"), redact.Word) {
		t.Errorf("tail %q", exit.LogTail)
	}
	seen := map[string]string{
		"the error": formatAll(p.Err()), "the events": formatAll(j.events), "the plan": formatAll(plan),
		"the handoff": formatAll(p.handoff), "the status": formatAll(p.Status()),
		// Not p itself: a last look at its files may have its locks.
		"the launch": formatAll([]any{p.cfg, p.opts, p.run.rec, p.run.key, p.run.redact}),
	}
	for _, dir := range []string{cfg.StateDir, cache} {
		for path, content := range filesBelow(t, dir) {
			if path != p.run.rec.Log { // what the engine itself writes into its log is the engine's
				seen[path] = content
			}
		}
	}
	for where, text := range seen {
		if strings.Contains(text, canary) {
			t.Errorf("the canary is in %s", where)
		}
	}
}

func TestLookUp(t *testing.T) {
	t.Parallel()
	var doc any
	if err := json.Unmarshal([]byte(`{"version":"1","data":[{"root":"/m","n":3}]}`), &doc); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"version": "1", "data.0.root": "/m", "data.0.n": 3.0,
		"data.1.root": nil, "data.-1": nil, "data.x": nil, "version.0": nil, "nothing": nil, "": nil,
	} {
		if got := probe.LookUp(doc, key); got != want {
			t.Errorf("%q: got %v, want %v", key, got, want)
		}
	}
}

func TestAnswerForPeople(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		``: "503 Service Unavailable",
		`{"error": {"message": "Loading model", "code": 503}}`: "503 Service Unavailable: Loading model",
		`{"error": "model 'nope' not found"}`:                  "503 Service Unavailable: model 'nope' not found",
		`{"detail": "starting"}`:                               "503 Service Unavailable: starting",
		`{"error": {"message": 3}, "detail": [{"loc": 1}]}`:    "503 Service Unavailable",
		`["error"]`: "503 Service Unavailable",
		`{"error": "` + strings.Repeat("ä", 150) + `"}`: "503 Service Unavailable: " + strings.Repeat("ä", 100),
		`{"error": "\u001b[31mred"}`:                    "503 Service Unavailable: red",
	} {
		if got := (probe.Answer{Status: http.StatusServiceUnavailable, Body: []byte(body)}).String(); got != want {
			t.Errorf("%s:\ngot  %q\nwant %q", body, got, want)
		}
	}
}

// Clients that have filled the engine before it was ready do not hold it up: the tokens that they get are an answer. What one
// question of our own adds to the counters is none.
func TestReadyUnderFire(t *testing.T) {
	t.Parallel()
	for name, fire := range map[string]bool{"clients": true, "nobody": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, j := started(t, fakeConfig(t, enginetest.Behavior{BusyRequests: time.Hour}))
			if fire {
				ctx, end := context.WithCancel(t.Context())
				done := make(chan struct{})
				defer func() { end(); <-done }()
				go func() {
					defer close(done)
					client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
					for ctx.Err() == nil {
						req, _ := http.NewRequestWithContext(ctx, http.MethodPost, probe.URL("127.0.0.1", p.cfg.Port)+"/completion", strings.NewReader(`{}`))
						if resp, err := client.Do(req); err == nil {
							resp.Body.Close()
						}
					}
				}()
			}
			ctx := bounded(t)
			if !fire {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
			}
			h, err := p.WaitReady(ctx)
			if fire && (err != nil || h.Answer != answerOK || !strings.Contains(j.notes(), "it gives tokens to clients that came before it was ready")) {
				t.Errorf("%+v, %v, notes %q", h, err, j.notes())
			}
			if !fire && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("WaitReady: %v", err)
			}
		})
	}
}

// A model is the same one where its name holds what is not shown on a terminal.
func TestReadyOfModelWithControlCharacters(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	odd := filepath.Join(cfg.Dir, "a\x1b[31mred\nchat.gguf ")
	if err := os.Rename(cfg.Model.ID, odd); err != nil {
		t.Fatal(err)
	}
	cfg.Model.ID = odd
	ready(t, cfg)
}
