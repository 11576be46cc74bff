package hold_test

import (
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/hold"
)

func TestNew(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		"":                       "needs a reason",
		"   ":                    "needs a reason",
		"two\nlines":             "one line of plain text",
		"\x1b[31mred":            "one line of plain text",
		"\xff":                   "one line of plain text",
		strings.Repeat("a", 201): "at most 200",
	} {
		if _, err := hold.New(reason, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", reason, err)
		}
	}
	if _, err := hold.New("why", -time.Second); err == nil {
		t.Error("a negative time")
	}
	h, err := hold.New(" new driver ", 2*time.Hour)
	if err != nil || h.Reason != "new driver" || h.User == "" || h.PID == 0 || h.Until.Sub(h.Since) < 2*time.Hour {
		t.Fatalf("%+v (%v)", h, err)
	}
	if h.Over(h.Until.Add(-time.Nanosecond)) || !h.Over(h.Until) {
		t.Error("it ends at another time")
	}
	if text := h.String(); !strings.HasPrefix(text, "held by ") || !strings.HasSuffix(text, ": new driver") || !strings.Contains(text, " until ") {
		t.Error(text)
	}
}
