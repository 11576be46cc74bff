package fleet

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/settings"
)

// What others are told to reach a replica by is in its handoff, and another name is no reason for another launch.
func TestAdvertise(t *testing.T) {
	t.Parallel()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	cfg.Host, cfg.Expose, cfg.Advertise = "0.0.0.0", settings.ExposeOpen, "{hostname}"
	told := filepath.Join(t.TempDir(), "told")
	asked := make(chan string, 1)
	router := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Query().Get("u") }))
	t.Cleanup(router.Close)
	cfg.Drain.Hooks = []settings.DrainHook{{HTTP: &settings.HTTPHook{URL: router.URL + "/?u={url}"}}, {Command: []string{"/bin/sh", "-c", `printf %s "$ENGINE_PROVISIONER_URL" > "$0"`, told}}}
	s, _ := superviseReady(t, cfg)
	url := func(host string) string { return fmt.Sprintf("http://%s:%d", host, cfg.Port) }
	handoff := func() provisioner.Handoff {
		h, err := provisioner.ReadHandoff(filepath.Join(s.HandoffDir(), "pool-r0.json"))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if h := handoff(); h.URL != url(name) || h.OpenAIURL != url(name)+"/v1" || s.Status()[0].URL != h.URL {
		t.Errorf("%q, %q, %q", h.URL, h.OpenAIURL, s.Status()[0].URL)
	}
	was := s.Status()[0].LaunchID
	cfg.Advertise = "gpu-7.example"
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 updated")
	if h := handoff(); h.URL != url("gpu-7.example") || s.Status()[0].LaunchID != was {
		t.Errorf("%q", h.URL)
	}
	// What this machine cannot tell is no end of what it told before.
	cfg.Advertise = "{interface:none0}"
	wantApplied(t, s, []provisioner.ProvisionConfig{cfg}, "r0 updated")
	if h := handoff(); h.URL != url("gpu-7.example") {
		t.Errorf("%q", h.URL)
	}
	if err := s.Stop(bounded(t), cfg.ID(), provisioner.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(told); err != nil || string(data) != url("gpu-7.example") {
		t.Errorf("the hook was told %q (%v)", data, err)
	}
	if got := <-asked; got != url("gpu-7.example") {
		t.Errorf("the request told %q", got)
	}
}
