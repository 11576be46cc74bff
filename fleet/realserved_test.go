package fleet

import (
	"net/http"
	"os"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/report"
)

// completes asks for some tokens and reports whether they came.
func completes(url string) bool {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(url+"/completion", "application/json", strings.NewReader(`{"prompt":"The quick brown fox and","n_predict":8}`))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// "cp" over the model of a running engine truncates it first. The engine dies of SIGBUS with the next request, and every start
// fails until the copy is complete; then it serves again by itself.
func TestRealModelIsCopiedOver(t *testing.T) {
	t.Parallel()
	cfg := tirelessly(realConfig(t, tiny))
	whole := mustRead(t, cfg.Model.ID)
	s, j := superviseReady(t, cfg)
	was := s.Status()[0]
	if !completes(was.URL) {
		t.Fatal("it does not answer")
	}
	if err := os.Truncate(cfg.Model.ID, 0); err != nil {
		t.Fatal(err)
	}
	if completes(was.URL) {
		t.Fatal("it answers without its model: nothing was tried")
	}
	eventually(t, "several starts have failed", func() bool { return s.Status()[0].Restarts.Failures > 2 })
	if err := os.WriteFile(cfg.Model.ID, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	halfway := s.Status()[0].Restarts.Failures
	eventually(t, "starts with half of it have failed", func() bool { return s.Status()[0].Restarts.Failures > halfway+2 })
	if r := s.Status()[0].Restarts; r.Phase == report.PhaseFailed || r.Cause != engine.CauseModelCorrupt {
		t.Errorf("restarts %+v", r)
	}
	if err := os.WriteFile(cfg.Model.ID, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	now := untilReady(t, s, was.LaunchID)
	if !completes(now.URL) {
		t.Error("it is back and does not answer")
	}
	if !strings.Contains(j.restarts(), "bus error") {
		t.Errorf("it did not end by SIGBUS:\n%s", j.restarts())
	}
}

// restarts is what the journal says of failures, a line each.
func (j *journal) restarts() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var lines []string
	for _, e := range j.events {
		if e.Kind == provisioner.EventRestart {
			lines = append(lines, e.Message)
		}
	}
	return strings.Join(lines, "\n")
}
