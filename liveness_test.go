package provisioner

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/witness"
	"github.com/llama-orch/engine-provisioner/settings"
)

// quick are settings by which a dead engine is found in a second or two. Questions are no closer: with the race detector, and on
// a busy machine, the fake engine's answers to one every 20 ms were a twentieth of a core, which counts as work.
func quick() settings.Liveness {
	return settings.Liveness{
		Period: settings.Duration(200 * time.Millisecond), Timeout: settings.Duration(200 * time.Millisecond),
		WedgedAfter: settings.Duration(time.Second), TokenTimeout: settings.Duration(time.Second),
	}
}

// ask sends one completion request in the background, which the end of the test calls off.
func ask1(t *testing.T, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/completion", strings.NewReader(`{"prompt":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	t.Cleanup(func() { <-ended })
}

// An engine that gives no answer but works is noted once and left alone, and so is one that is suspended by whatever means.
func TestLivenessLeavesABusyEngineAlone(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{Threads: 1, BusyRequests: time.Hour, LogFlood: 1000})
	cfg.Ready.Answer = "off"
	p, _ := ready(t, cfg)
	ask1(t, p.handoff.URL)
	see := witness.New(p.run.seen(), p.run.prober(settings.Duration(50*time.Millisecond)), time.Hour)
	judge := life.New(life.Limits{WedgedAfter: 300 * time.Millisecond})
	eventually(t, "it is seen to work without an answer", func() bool {
		v := judge.See(time.Now(), see.Look(t.Context()))
		if v.Life.Lost() {
			t.Fatalf("%+v", v)
		}
		return v.Life == life.Busy && v.Works && v.Silent > 2*time.Second && strings.HasPrefix(v.Reason, "/health unanswered for ")
	})
}

// An engine that sleeps, or may fall asleep, is not disturbed: not by liveness, whatever a token period says, nor by a drain,
// and in builds to which a look at the metrics is work not by that either.
func TestNobodyDisturbsSleep(t *testing.T) {
	t.Parallel()
	for name, old := range map[string]bool{"new": false, "old": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := enginetest.Behavior{MetricsWake: old}
			if old {
				b.VersionText = "version: 8000 (abcdef012)\nbuilt with cc for x86_64-linux-gnu\n"
				b.PropsBuild = "b8000-abcdef012"
			}
			cfg := fakeConfig(t, b)
			cfg.Flags = []string{"--sleep-idle-seconds", "1"}
			cfg.Liveness = quick()
			cfg.Liveness.TokenPeriod = settings.Duration(100 * time.Millisecond)
			p, _ := ready(t, cfg)
			go p.KeepHealthy(t.Context(), cfg.Liveness)
			asleep := func() bool {
				return probe.New("127.0.0.1", cfg.Port, secret.Text{}, patience).Asleep(t.Context(), probe.Field{Path: "/props", Key: "is_sleeping"})
			}
			eventually(t, "it falls asleep", asleep)
			see := witness.New(p.run.seen(), p.run.prober(settings.Duration(time.Second)), 0)
			for range 3 {
				if f := see.Look(t.Context()); f.Answer != life.Fine || f.Work != nil {
					t.Errorf("%+v", f)
				}
			}
			if !asleep() {
				t.Error("it was woken")
			}
			log := p.run.rec.Log
			if err := p.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
			if text, err := os.ReadFile(log); err != nil || strings.Contains(string(text), "exiting sleeping state") {
				t.Errorf("it was woken (%v):\n%s", err, text)
			}
		})
	}
}

// What a debugger holds, or a frozen cgroup, is told from what hangs.
func TestWitnessSeesWhoIsHeld(t *testing.T) {
	t.Parallel()
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}))
	see := witness.New(p.run.seen(), p.run.prober(settings.Duration(50*time.Millisecond)), 0)
	eventually(t, "it answers, and nobody holds it", func() bool { // not in 50 ms always, on a busy machine
		f := see.Look(t.Context())
		return f.Held == "" && f.Answer == life.Fine
	})
	pid := p.Status().PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "SIGSTOP is seen", func() bool { return see.Look(t.Context()).Held == "SIGSTOP" && p.run.held() == "SIGSTOP" })
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on", func() bool { return see.Look(t.Context()).Answer == life.Fine })
}

func TestWitnessSeesAFrozenCgroup(t *testing.T) {
	t.Parallel()
	f := newFreezer(t)
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}))
	f.freeze(t, p.Status().PID)
	see := witness.New(p.run.seen(), p.run.prober(settings.Duration(50*time.Millisecond)), 0)
	if facts := see.Look(t.Context()); facts.Held != "its cgroup is frozen" || p.run.held() != "its cgroup is frozen" {
		t.Errorf("%+v", facts)
	}
	f.thaw(t)
	eventually(t, "it goes on", func() bool { return see.Look(t.Context()).Answer == life.Fine })
}

// What offers no tokens is asked for its health with the same patience, and one error is not the end.
func TestLastChance(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		behavior enginetest.Behavior
		health   bool // it offers nothing else to ask
		hang     bool
		broken   string
	}{
		"a token":             {enginetest.Behavior{}, false, false, ""},
		"not offered":         {enginetest.Behavior{AnswerStatus: 400}, false, false, ""},
		"another key":         {enginetest.Behavior{AnswerStatus: 401}, false, false, ""},
		"errors":              {enginetest.Behavior{AnswerStatus: 500}, false, false, "the first token failed"},
		"no answer":           {enginetest.Behavior{Answer: enginetest.AnswerHang}, false, false, "no answer in time"},
		"its health":          {enginetest.Behavior{}, true, false, ""},
		"its health hangs":    {enginetest.Behavior{}, true, true, "no answer in time"},
		"its health is wrong": {enginetest.Behavior{HealthStatus: 500}, true, false, "/health answers 500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := test.behavior
			b.HealthStatus = 0
			cfg := fakeConfig(t, b)
			cfg.Ready.Answer = "off"
			p, _ := ready(t, cfg)
			if test.health {
				p.run.rec.Launch.Spec.Answer = nil
			}
			if test.behavior.HealthStatus != 0 {
				enginetest.Fail(t, p.handoff.URL, test.behavior.HealthStatus)
			}
			if test.hang {
				enginetest.Hang(t, p.handoff.URL)
			}
			limit := patience
			if strings.Contains(test.broken, "in time") {
				limit = 500 * time.Millisecond
			}
			c := p.run.seen().LastChance(t.Context(), p.run.prober(settings.Duration(time.Second)), limit)
			var f life.Facts
			eventually(t, "it is over", func() bool { return c.Add(&f) })
			if (f.Token == life.TokenCame) != (test.broken == "") || !strings.Contains(f.TokenSaid, test.broken) {
				t.Errorf("%+v", f)
			}
		})
	}
}
