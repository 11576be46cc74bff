package web

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// Snapshot is where the replicas of a fleet stand: what /status answers, with their usage, and what /events begins with, without.
type Snapshot struct {
	// Seq is the number of the last event that is certainly in it: what follows comes from /events after that number.
	Seq uint64 `json:"seq"`
	// Time is when that was.
	Time time.Time `json:"time"`
	// Replicas are all of the fleet, in the order of its configuration.
	Replicas []provisioner.Status `json:"replicas"`
}

//go:embed status.schema.json
var schema []byte

func statusSchema(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/schema+json")
	_, _ = w.Write(schema)
}

func (s *face) snapshot() Snapshot {
	all, seq := s.fleet.Snapshot()
	return Snapshot{Seq: seq, Time: time.Now().UTC(), Replicas: all}
}

func (s *face) status(w http.ResponseWriter, r *http.Request) {
	now := s.snapshot()
	s.recorder.add(r.Context(), now.Replicas)
	answerJSON(w, now)
}

func answerJSON(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "cannot encode the answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n'))
}
