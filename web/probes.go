package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/report"
)

// healthz tells whether the manager works, whatever its engines do: who restarts it for an engine's sake helps nobody.
func (s *face) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := s.fleet.Alive(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, "ok")
}

// readyz tells whether all replicas can be used, or the one that is asked for. Anybody may ask, so it repeats no words of
// engines.
func (s *face) readyz(w http.ResponseWriter, r *http.Request) {
	one, asked, err := s.replicaOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	all := s.fleet.Status()
	if asked {
		all = []provisioner.Status{one}
	}
	var reasons []string
	for _, status := range all {
		if why := unready(status); why != "" {
			reasons = append(reasons, status.ID().String()+": "+why)
		}
	}
	select {
	case <-s.fleet.Done():
		reasons = []string{"the manager has ended"}
	default:
	}
	if len(reasons) > 0 {
		http.Error(w, strings.Join(reasons, "\n"), http.StatusServiceUnavailable)
		return
	}
	answer(w, fmt.Sprintf("%d of %d ready", len(all), len(all)))
}

// unready says why a replica cannot be used; "" when it can.
func unready(s provisioner.Status) string {
	switch s.State {
	case provisioner.StateReady:
		if s.Drained {
			return "out of service"
		}
		return ""
	case provisioner.StateFailed:
		return "failed" + outlook(s.Restarts)
	default:
		return string(s.State)
	}
}

// outlook is why a replica failed, in one word, and what is to come of it.
func outlook(r *report.Restarts) string {
	if r == nil {
		return ""
	}
	text := ""
	if r.Cause != "" {
		text = " (" + string(r.Cause) + ")"
	}
	switch r.Phase {
	case report.PhaseFailed:
		return text + ", given up"
	case report.PhaseStopped:
		return text + ", stopped"
	case report.PhaseBackoff:
		return text + ", next try at " + r.RetryAt.UTC().Format(time.RFC3339)
	case report.PhaseOpen:
		return text + ", breaker open, next try at " + r.RetryAt.UTC().Format(time.RFC3339)
	default:
		return text
	}
}

func answer(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, text)
}
