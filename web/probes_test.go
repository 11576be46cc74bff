package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/test/client"
	"github.com/llama-orch/engine-provisioner/internal/test/wait"
	"github.com/llama-orch/engine-provisioner/report"
)

// The probes tell of the manager and of its replicas, and not of one by the other.
func TestProbes(t *testing.T) {
	t.Parallel()
	ready := config(t, enginetest.Behavior{})
	f := open(t, ready)
	url, caller := serve(t, f, Options{})
	want := func(path string, code int, text string) {
		t.Helper()
		if got, body := client.Get(t, caller, url+path); got != code || !strings.Contains(body, text) {
			t.Errorf("%s: %d %q, want %d %q", path, got, body, code, text)
		}
	}
	if err := f.WaitReady(wait.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	want("/readyz", http.StatusOK, "1 of 1 ready")

	loading := config(t, enginetest.Behavior{LoadTime: time.Hour})
	loading.ReplicaID, loading.StateDir = "r1", f.StateDir()
	if err := f.Add(wait.Bounded(t), loading); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the second one loads", func() bool { return f.Status()[1].State == provisioner.StateStarting })
	want("/readyz", http.StatusServiceUnavailable, "pool/r1: starting\n")
	want("/readyz?replica=pool/r0", http.StatusOK, "1 of 1 ready")
	want("/readyz?replica=pool/r1", http.StatusServiceUnavailable, "pool/r1: starting")
	want("/readyz?replica=pool/r2", http.StatusNotFound, `no replica "pool/r2"`)
	want("/readyz?replica=pool", http.StatusNotFound, "write POOL/REPLICA")
	want("/healthz", http.StatusOK, "ok")

	if err := f.Drain(wait.Bounded(t), r0); err != nil {
		t.Fatal(err)
	}
	want("/readyz?replica=pool/r0", http.StatusServiceUnavailable, "out of service")
	_ = f.KillAll(wait.Bounded(t))
	want("/readyz", http.StatusServiceUnavailable, "the manager has ended")
	want("/healthz", http.StatusServiceUnavailable, "the fleet has ended")
}

func TestEmptyFleetIsReady(t *testing.T) {
	t.Parallel()
	url, caller := serve(t, open(t), Options{})
	if code, body := client.Get(t, caller, url+"/readyz"); code != http.StatusOK || body != "0 of 0 ready\n" {
		t.Errorf("%d %q", code, body)
	}
}

// What a probe says of a replica is short, and nothing that its engine has said.
func TestUnready(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 1, 3, 4, 5, 0, time.UTC)
	failed := func(phase report.Phase) provisioner.Status {
		return provisioner.Status{
			State: provisioner.StateFailed, Heard: "secret words", Exit: "secret words", Failure: &provisioner.Failure{Evidence: "secret words"},
			Restarts: &report.Restarts{Phase: phase, Cause: "oom_host", RetryAt: at, Last: "secret words"},
		}
	}
	for _, c := range []struct {
		status provisioner.Status
		want   string
	}{
		{provisioner.Status{State: provisioner.StateReady}, ""},
		{provisioner.Status{State: provisioner.StateReady, Drained: true}, "out of service"},
		{provisioner.Status{State: provisioner.StateNew}, "new"},
		{provisioner.Status{State: provisioner.StateDraining}, "draining"},
		{provisioner.Status{State: provisioner.StateFailed}, "failed"},
		{failed(report.PhaseBackoff), "failed (oom_host), next try at 2026-12-01T03:04:05Z"},
		{failed(report.PhaseOpen), "failed (oom_host), breaker open, next try at 2026-12-01T03:04:05Z"},
		{failed(report.PhaseFailed), "failed (oom_host), given up"},
		{failed(report.PhaseStopped), "failed (oom_host), stopped"},
		{failed(report.PhaseRunning), "failed (oom_host)"},
	} {
		if got := unready(c.status); got != c.want {
			t.Errorf("%+v: %q, want %q", c.status, got, c.want)
		}
	}
}
