package witness

import (
	"time"

	"github.com/llama-orch/engine-provisioner/internal/life"
)

const (
	// saturatedAfter is how long a working engine may give no answer before that is told, and saturatedEvery how often it is.
	saturatedAfter = 30 * time.Second
	saturatedEvery = 10 * time.Minute
)

// Teller tells people about an engine that gives no answer and is left alone: once for each time, and not too often.
type Teller struct {
	held      bool
	saturated bool
	last      time.Time // when saturation was last told of
}

// Note is what to tell about a verdict; "" for nothing.
func (t *Teller) Note(v life.Verdict, now time.Time) string {
	held := v.Life == life.Suspended
	switch was := t.held; {
	case held && !was:
		t.held = true
		return v.Reason + "; it is left alone"
	case !held:
		t.held = false
	}
	switch {
	case v.Life == life.Busy && v.Works && v.Silent >= saturatedAfter && !t.saturated && (t.last.IsZero() || now.Sub(t.last) >= saturatedEvery):
		t.saturated, t.last = true, now
		return "saturated: " + v.Reason
	case v.Life == life.Working && t.saturated:
		t.saturated = false
		return "it answers again"
	}
	return ""
}
