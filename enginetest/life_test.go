package enginetest

import (
	"context"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestEnds starts an engine, does something to it, and looks at how it ended.
func TestEnds(t *testing.T) {
	t.Parallel()
	term := func(t *testing.T, p *process) { p.waitReady(t).signal(t, syscall.SIGTERM) }
	ask := func(t *testing.T, p *process) { p.waitReady(t).do(http.MethodPost, "/completion", "{}") }
	nothing := func(*testing.T, *process) {}
	for _, tc := range []struct {
		name     string
		behavior Behavior
		args     []string
		act      func(t *testing.T, p *process)
		want     string
		log      string
	}{
		{name: "SIGTERM", act: term, want: "exit status 0", log: "cleaning up before exit"},
		{
			name: "SIGTERM while loading", behavior: Behavior{LoadTime: time.Hour},
			act: func(t *testing.T, p *process) { p.waitBound(t).signal(t, syscall.SIGTERM) }, want: "signal: terminated",
		},
		{
			name: "SIGHUP", act: func(t *testing.T, p *process) { p.waitReady(t).signal(t, syscall.SIGHUP) },
			want: "signal: hangup",
		},
		{
			name: "SIGQUIT", act: func(t *testing.T, p *process) { p.waitReady(t).signal(t, syscall.SIGQUIT) },
			want: "signal: quit",
		},
		{
			name: "die loading", behavior: Behavior{DieLoading: &Death{Code: 7, Stderr: "last words\n"}}, act: nothing,
			want: "exit status 7", log: "last words",
		},
		{
			name: "die before the bind", behavior: Behavior{Bind: BindNever, DieLoading: &Death{Code: 2}, LogText: "why\n"},
			act: nothing, want: "exit status 2", log: "why",
		},
		{
			name: "die ready", behavior: Behavior{DieReady: &Death{After: 100 * time.Millisecond}}, act: nothing,
			want: "exit status 0", log: "listening on http://127.0.0.1:",
		},
		{name: "SIGSEGV", behavior: Behavior{DieReady: &Death{Signal: syscall.SIGSEGV}}, act: nothing, want: "signal: segmentation fault"},
		{name: "SIGKILL", behavior: Behavior{DieLoading: &Death{Signal: syscall.SIGKILL}}, act: nothing, want: "signal: killed"},
		{name: "SIGABRT", behavior: Behavior{DieReady: &Death{Signal: syscall.SIGABRT}}, act: nothing, want: "signal: aborted"},
		{name: "die at the first token", behavior: Behavior{Answer: AnswerDie}, act: ask, want: "signal: illegal instruction"},
		{
			name: "bind fails", behavior: Behavior{Bind: BindFail}, act: nothing, want: "exit status 1",
			log: "couldn't bind HTTP server socket, hostname: 127.0.0.1, port: ",
		},
		{
			name: "unknown flag", behavior: Behavior{StrictFlags: true}, args: []string{"--bogus-flag"}, act: nothing,
			want: "exit status 1", log: "error: invalid argument: --bogus-flag\n",
		},
		{
			name: "bad port", args: []string{"--port", "x"}, act: nothing, want: "exit status 1",
			log: `error while handling argument "--port": stoi`,
		},
		{
			name: "missing value", args: []string{"--n-gpu-layers"}, act: nothing, want: "exit status 1",
			log: `error while handling argument "--n-gpu-layers": expected value for argument`,
		},
		{
			name: "no model", behavior: Behavior{CheckModel: true}, act: nothing, want: "exit status 1",
			log: "failed to open GGUF file '/models/m.gguf' (No such file or directory)",
		},
		{name: "lifetime", behavior: Behavior{Lifetime: 50 * time.Millisecond}, act: nothing, want: "exit status 3"},
		{
			name: "second SIGTERM", behavior: Behavior{ExitOnSecondTerm: true}, want: "exit status 1",
			log: "Received second interrupt, terminating immediately.",
			act: func(t *testing.T, p *process) {
				p.waitReady(t).signal(t, syscall.SIGTERM)
				p.eventually(t, "the first signal", func() bool { return Inspect(t, p.url).Signals["SIGTERM"] == 1 })
				if code, _ := p.get("/health"); code != 200 {
					t.Errorf("health after the first SIGTERM: %d, want 200", code)
				}
				p.signal(t, syscall.SIGTERM)
			},
		},
		{
			name: "ignores SIGTERM and SIGINT", behavior: Behavior{IgnoreTerm: true}, want: "signal: killed",
			act: func(t *testing.T, p *process) {
				p.waitReady(t).signal(t, syscall.SIGTERM)
				p.signal(t, syscall.SIGINT)
				p.eventually(t, "both signals", func() bool {
					s := Inspect(t, p.url).Signals
					return s["SIGTERM"] == 1 && s["SIGINT"] == 1
				})
				p.signal(t, syscall.SIGKILL)
			},
		},
		{
			name: "ignores SIGTERM while loading", behavior: Behavior{IgnoreTerm: true, LoadTime: time.Hour},
			want: "signal: killed",
			act: func(t *testing.T, p *process) {
				p.waitBound(t).signal(t, syscall.SIGTERM)
				p.eventually(t, "the signal", func() bool { return Inspect(t, p.url).Signals["SIGTERM"] == 1 })
				p.signal(t, syscall.SIGKILL)
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, tc.behavior, tc.args...)
			tc.act(t, p)
			if got := strings.TrimSuffix(p.wait(t), " (core dumped)"); got != tc.want {
				t.Errorf("ended with %q, want %q; its log:\n%s", got, tc.want, p.log.String())
			}
			if !strings.Contains(p.log.String(), tc.log) {
				t.Errorf("the log lacks %q:\n%s", tc.log, p.log.String())
			}
		})
	}
}

// A llama-server that got SIGTERM with a request in flight leaves its client without an answer, and stays until that
// client hangs up.
func TestTermWithRequestInFlight(t *testing.T) {
	t.Parallel()
	p := start(t, Behavior{BusyRequests: 100 * time.Millisecond, Answer: AnswerHang}, "--metrics").waitReady(t)
	req, err := http.NewRequest(http.MethodPost, p.url+"/completion", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	answered := make(chan error, 1)
	go func() {
		resp, err := transport.RoundTrip(req.WithContext(ctx))
		if err == nil {
			_ = resp.Body.Close()
		}
		answered <- err
	}()
	p.eventually(t, "the request", func() bool {
		_, body := p.get("/metrics")
		return strings.Contains(body, "\nllamacpp:requests_processing 1\n")
	})
	p.signal(t, syscall.SIGTERM)
	p.eventually(t, "the closing of the port", func() bool { code, _ := p.get("/health"); return code == 0 })
	select {
	case <-p.exited:
		t.Error("the engine went while a client was waiting")
	case err := <-answered:
		t.Errorf("the client got an answer: %v", err)
	case <-time.After(100 * time.Millisecond): // long enough to see an exit, which takes about 1 ms
	}
	hangUp()
	if got := p.wait(t); got != "exit status 0" {
		t.Errorf("ended with %q, want exit status 0", got)
	}
	if err := <-answered; err == nil {
		t.Error("the client got an answer")
	}
}

func TestSlowExit(t *testing.T) {
	t.Parallel()
	const slow = 300 * time.Millisecond
	p := start(t, Behavior{SlowExit: slow}).waitReady(t)
	began := time.Now()
	p.signal(t, syscall.SIGTERM)
	if got := p.wait(t); got != "exit status 0" || time.Since(began) < slow {
		t.Errorf("ended with %q after %v, want exit status 0 after at least %v", got, time.Since(began), slow)
	}
}

func TestBindLate(t *testing.T) {
	t.Parallel()
	const delay = 200 * time.Millisecond
	began := time.Now()
	start(t, Behavior{BindDelay: delay}).waitBound(t)
	if took := time.Since(began); took < delay {
		t.Errorf("bound after %v, want at least %v", took, delay)
	}
}

func TestBindNever(t *testing.T) {
	t.Parallel()
	p := start(t, Behavior{Bind: BindNever})
	p.eventually(t, "the start", func() bool { return strings.Contains(p.log.String(), "downloading") })
	if code, body := p.get("/health"); code != 0 {
		t.Errorf("got %d %s, want no answer", code, body)
	}
	p.signal(t, syscall.SIGTERM)
	if got := p.wait(t); got != "signal: terminated" {
		t.Errorf("ended with %q", got)
	}
}

func TestBindOther(t *testing.T) {
	t.Parallel()
	p := start(t, Behavior{Bind: BindOther})
	p.eventually(t, "the bind", func() bool { return strings.Contains(p.log.String(), "listening on http://127.0.0.1:") })
	if strings.Contains(p.log.String(), p.url) {
		t.Errorf("listens where it was told: %s", p.log.String())
	}
}
