package witness

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/life"
)

func TestNotes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	busy := life.Verdict{Life: life.Busy, Works: true, Silent: saturatedAfter, Reason: "/health unanswered for 30s, and it works"}
	held := life.Verdict{Life: life.Suspended, Reason: "the engine is suspended (SIGSTOP)"}
	var tell Teller
	for i, step := range []struct {
		after time.Duration
		v     life.Verdict
		want  string
	}{
		{0, life.Verdict{Life: life.Working}, ""},
		{0, life.Verdict{Life: life.Busy, Works: true, Silent: saturatedAfter - 1}, ""},
		{0, life.Verdict{Life: life.Busy, Silent: saturatedAfter}, ""},
		{0, busy, "saturated: /health unanswered for 30s, and it works"},
		{time.Minute, busy, ""},
		{0, life.Verdict{Life: life.Working}, "it answers again"},
		{time.Minute, busy, ""},
		{0, life.Verdict{Life: life.Working}, ""},
		{saturatedEvery, busy, "saturated: /health unanswered for 30s, and it works"},
		{0, held, "the engine is suspended (SIGSTOP); it is left alone"},
		{0, held, ""},
		{0, life.Verdict{Life: life.Working}, "it answers again"},
		{0, held, "the engine is suspended (SIGSTOP); it is left alone"},
	} {
		now = now.Add(step.after)
		if got := tell.Note(step.v, now); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}

// Only what an engine says of its work counts, not what it says of questions.
func TestLogWatch(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	l := Log{
		path: path, pages: [][]byte{[]byte("GET /health"), []byte("GET /metrics")}, chatter: regexp.MustCompile("No available shared memory"),
	}
	if l.Look() != 1 {
		t.Error("a log that is not there has grown")
	}
	text := ""
	for i, step := range []struct {
		add  string
		sign bool
	}{
		{"loading\n", true},
		{"", false},
		{`INFO: 127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK` + "\n", false},
		{`INFO: 127.0.0.1:1 - "GET /metrics HTTP/1.1" 200 OK` + "\n\n", false},
		{"[shm_broadcast.py:501] No available shared memory broadcast block found in 60 seconds.\n", false},
		{`INFO: 127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 200 OK` + "\n", true},
		{"GET /health\nslot release\nGET /health\n", true},
		{strings.Repeat("GET /health\n", 3*maxLogPiece/12), false},
	} {
		before := l.Look()
		text += step.add
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if grown := l.Look() > before; grown != step.sign {
			t.Errorf("step %d: %t", i, grown)
		}
	}
	before := l.Look()
	if err := os.WriteFile(path, []byte("cut\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l.Look() == before {
		t.Error("a log that was cut has not grown")
	}
}

func TestSuspended(t *testing.T) {
	t.Parallel()
	for state, want := range map[byte]string{'R': "", 'S': "", 'D': "", 'T': "SIGSTOP", 't': "a debugger holds it"} {
		if got := suspended(state); got != want {
			t.Errorf("%c: %q", state, got)
		}
	}
}
