package fleet

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
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

// A loop that hangs behind a web server that goes on is found: with requests in it by the engine's own account, and where
// that says that there are none by a token that does not come.
func TestLivenessFindsAWedgedEngine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hidden bool
		last   string
	}{
		"at work": {false, "the engine hangs: at work on 1 request by its own account, but without a token: no answer in time; nothing of it has moved for "},
		"idle":    {true, "the engine hangs: idle, but without a token: no answer in time; nothing of it has moved for "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := briskly(fakeConfig(t, enginetest.Behavior{HideRequests: test.hidden}))
			cfg.Liveness = quick()
			if test.hidden {
				cfg.Liveness.TokenPeriod = settings.Duration(time.Second)
			}
			s, j := superviseReady(t, cfg)
			first := s.Status()[0]
			enginetest.Wedge(t, first.URL)
			ask1(t, first.URL)
			untilReady(t, s, first.LaunchID)
			if last := s.Status()[0].Restarts.Last; !strings.Contains(last, test.last) || !strings.Contains(last, "no longer ready, ") {
				t.Errorf("last failure: %q", last)
			}
			if lost := j.lost(); lost == nil || !lost.Ready {
				t.Errorf("the event has %v", lost)
			}
		})
	}
}

// lost is why an engine was given up.
func (j *journal) lost() (lost *provisioner.NotReadyError) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		if e.Kind == provisioner.EventRestart && errors.As(e.Err, &lost) {
			return lost
		}
	}
	return nil
}

func TestLivenessEndsAFailingEngine(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	cfg.Liveness = quick()
	cfg.Liveness.WedgedAfter = settings.Duration(time.Hour)
	s, _ := superviseReady(t, cfg)
	first := s.Status()[0]
	enginetest.Fail(t, first.URL, http.StatusInternalServerError)
	untilReady(t, s, first.LaunchID)
	want := "the engine fails: 3 health checks in a row failed, the last one with: /health answers 500 Internal Server Error"
	if last := s.Status()[0].Restarts.Last; !strings.Contains(last, want) {
		t.Errorf("last failure: %q", last)
	}
}
