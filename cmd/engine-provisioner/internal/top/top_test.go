package top

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"pgregory.net/rapid"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/table"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/usage"
)

var update = flag.Bool("update", false, "write the screens of testdata anew")

// done is something that was done.
type done struct {
	what   Action
	id     provisioner.ReplicaID
	reason string
}

// screen is a model with n replicas, of which the first has a hostile log, and what was done by its keys.
func screen(n, width, height int) (*Model, *[]done) {
	var did []done
	m := New(context.Background(), Source{
		Log: func(string) []string { return nil },
		Do: func(_ context.Context, what Action, about provisioner.Status, reason string) error {
			did = append(did, done{what, about.ID(), reason})
			if what == Restart {
				return errors.New("no \x1b[2Jmanager\nlooks after it")
			}
			return nil
		},
	}, false)
	m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	m.Update(lookedMsg{all: replicas(n, 1), at: time.Now()})
	return m, &did
}

func replicas(n int, rate float64) []provisioner.Status {
	all := make([]provisioner.Status, n)
	for i := range all {
		all[i] = provisioner.Status{
			Pool: "chat", Replica: fmt.Sprintf("r%d", i), Engine: "llamacpp", State: provisioner.StateReady, PID: 100 + i, Model: "a\x1b]0;x\amodel",
			URL: "http://127.0.0.1:8081", Log: fmt.Sprintf("%d.log", i), StartedAt: time.Now().Add(-time.Hour),
			Usage: &usage.Usage{Processes: 1, TokenRate: new(rate), Running: new(int(rate)), Memory: 1 << 30},
		}
	}
	return all
}

// press presses keys, and runs what they ask for.
func press(m *Model, keys ...string) {
	for _, key := range keys {
		k := tea.KeyPressMsg{Text: key}
		if runes := []rune(key); len(runes) == 1 {
			k.Code = runes[0]
		} else {
			k = map[string]tea.KeyPressMsg{
				"down": {Code: tea.KeyDown}, "up": {Code: tea.KeyUp}, "pgdown": {Code: tea.KeyPgDown}, "end": {Code: tea.KeyEnd}, "home": {Code: tea.KeyHome},
				"enter": {Code: tea.KeyEnter}, "esc": {Code: tea.KeyEscape}, "backspace": {Code: tea.KeyBackspace}, "tab": {Code: tea.KeyTab},
			}[key]
		}
		if _, cmd := m.Update(k); cmd != nil {
			if msg, ok := cmd().(doneMsg); ok {
				m.told = msg.text
			}
		}
	}
}

func (m *Model) text() string { return strings.Join(m.frame(), "\n") }

// TestFrame holds that a frame has the size of the screen, whatever that is, shows the chosen replica, and does nothing else to the
// terminal than to stand there.
func TestFrame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n, width, height := rapid.IntRange(0, 60).Draw(t, "replicas"), rapid.IntRange(1, 200).Draw(t, "width"), rapid.IntRange(1, 60).Draw(t, "height")
		m, _ := screen(n, width, height)
		for _, key := range rapid.SliceOfN(rapid.SampledFrom([]string{"down", "up", "pgdown", "end", "home", "/", "r", "4", "enter", "esc", "s", "n", "?", "h", "backspace", "tab"}), 0, 30).Draw(t, "keys") {
			press(m, key)
			m.Update(lookedMsg{all: replicas(n, 3), at: time.Now(), of: m.chosen, log: []string{strings.Repeat("a long line ", 30)}})
			if rapid.Bool().Draw(t, "resize") {
				width, height = rapid.IntRange(1, 200).Draw(t, "width"), rapid.IntRange(1, 60).Draw(t, "height")
				m.Update(tea.WindowSizeMsg{Width: width, Height: height})
			}
			frame := m.frame()
			if len(frame) != height {
				t.Fatalf("%d lines on %d", len(frame), height)
			}
			chosen := 0
			for _, line := range frame {
				if table.Columns(line) > width {
					t.Fatalf("%q is wider than %d", line, width)
				}
				if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
					t.Fatalf("%q does something to the terminal", line)
				}
				if strings.HasPrefix(line, "> ") {
					chosen++
				}
			}
			if len(m.shown()) > 0 && height > always && width > 3 && m.mode != helping && chosen != 1 {
				t.Fatalf("%d replicas are chosen:\n%s", chosen, m.text())
			}
		}
	})
}

func TestFiftyReplicasInTenRows(t *testing.T) {
	t.Parallel()
	m, _ := screen(50, 60, 10)
	if text := m.text(); !strings.Contains(text, "> chat  r0 ") || strings.Contains(text, "r7 ") || !strings.Contains(text, "50 replicas, 50 ready") {
		t.Errorf("\n%s", text)
	}
	press(m, "pgdown", "down")
	if text := m.text(); !strings.Contains(text, "> chat  r8 ") || strings.Contains(text, " r1 ") {
		t.Errorf("\n%s", text)
	}
	press(m, "end")
	if text := m.text(); !strings.Contains(text, "> chat  r49 ") {
		t.Errorf("\n%s", text)
	}
	press(m, "/", "r", "1", "2", "enter")
	if text := m.text(); !strings.Contains(text, "> chat  r12 ") || strings.Contains(text, "r49") {
		t.Errorf("\n%s", text)
	}
	press(m, "/", "x")
	if text := m.text(); !strings.Contains(text, `no replica has "r12x"`) {
		t.Errorf("\n%s", text)
	}
	press(m, "esc")
	if text := m.text(); !strings.Contains(text, "> chat  r12 ") || !strings.Contains(text, " r11 ") {
		t.Errorf("\n%s", text)
	}
}

// TestScreens holds what people see, on a wide terminal and on a small one.
func TestScreens(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 9, 30, 0, 0, time.Local)
	all := replicas(4, 12.5)
	for i := range all {
		all[i].StartedAt, all[i].Model, all[i].Manager = now.Add(-90*time.Second), "/models/tiny.gguf", 42
	}
	all[1].State, all[1].URL, all[1].Usage, all[1].Progress = provisioner.StateStarting, "", nil, &report.Progress{Step: "load", What: "tiny.gguf", Done: 1 << 30, Total: 4 << 30}
	all[2].State, all[2].PID, all[2].Usage, all[2].Exit = provisioner.StateFailed, 0, nil, "exit status 1"
	all[3].State, all[3].PID, all[3].Usage = provisioner.StateStopped, 0, nil
	m, _ := screen(0, 130, 16)
	for i := range 6 {
		m.see(lookedMsg{all: replicas(4, float64(3*i)), at: now})
	}
	m.Update(lookedMsg{all: all, at: now, of: m.chosen, log: []string{"srv  update_slots: all slots are idle", "slot release: id 0"}})
	m.Update(eventsMsg{{Time: now, Pool: "chat", Replica: "r0", Kind: provisioner.EventState, State: provisioner.StateReady, PID: 100}})
	for _, tt := range []struct {
		name          string
		width, height int
		keys          []string
	}{
		{name: "wide", width: 130, height: 16},
		{name: "failed", width: 80, height: 16, keys: []string{"down", "down"}},
		{name: "small", width: 40, height: 10, keys: []string{"up"}},
		{name: "small detail", width: 40, height: 10, keys: []string{"up", "enter"}},
		{name: "small help", width: 40, height: 10, keys: []string{"esc", "?"}},
		{name: "small help end", width: 40, height: 10, keys: []string{"end"}},
		{name: "small question", width: 40, height: 10, keys: []string{"esc", "down", "s"}},
		{name: "small hold", width: 40, height: 10, keys: []string{"n", "h", "n", "e", "w"}},
	} {
		m.Update(tea.WindowSizeMsg{Width: tt.width, Height: tt.height})
		press(m, tt.keys...)
		path := filepath.Join("testdata", strings.ReplaceAll(tt.name, " ", "-")+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(m.text()+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || m.text()+"\n" != string(want) {
			t.Errorf("%s (%v):\n%s\nwant (or run with -update):\n%s", tt.name, err, m.text(), want)
		}
	}
}

// Nothing is done without a second key, and to no other replica than the one that is named there.
func TestActions(t *testing.T) {
	t.Parallel()
	m, did := screen(3, 100, 20)
	press(m, "down", "s", "n", "r", "esc", "h", "x", "esc")
	if len(*did) > 0 {
		t.Fatalf("did %v", *did)
	}
	press(m, "s")
	if text := m.text(); !strings.Contains(text, "stop chat/r1? y does it") {
		t.Errorf("\n%s", text)
	}
	press(m, "y")
	if text := m.text(); !strings.Contains(text, "stop chat/r1: done") {
		t.Errorf("\n%s", text)
	}
	press(m, "up", "h", "n", "e", "w", "x", "backspace", "enter", "r", "y")
	if text := m.text(); !strings.Contains(text, "no manager; looks after it") {
		t.Errorf("\n%s", text)
	}
	r0, r1 := provisioner.ReplicaID{Pool: "chat", Replica: "r0"}, provisioner.ReplicaID{Pool: "chat", Replica: "r1"}
	if got, want := fmt.Sprint(*did), fmt.Sprint([]done{{Stop, r1, ""}, {Hold, r0, "new"}, {Restart, r0, ""}}); got != want {
		t.Errorf("did %s, want %s", got, want)
	}
}

// What a replica has done of late, its events and its log stand below the table, for the chosen one.
func TestDetail(t *testing.T) {
	t.Parallel()
	m, _ := screen(2, 120, 24)
	for i := range 9 {
		m.Update(lookedMsg{all: replicas(2, float64(i)), at: time.Now(), of: m.chosen, log: []string{"the last line"}})
	}
	m.Update(eventsMsg{{Pool: "chat", Replica: "r0", Kind: provisioner.EventNote, Message: "it happened here"}})
	m.Update(eventsMsg{{Pool: "chat", Replica: "r1", Kind: provisioner.EventNote, Message: "it happened there"}})
	text := m.text()
	for _, want := range []string{"▁▂▃▄▅▅▆▇█", "it happened here", "the last line", "1.0 GiB"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "there") {
		t.Errorf("another's event in\n%s", text)
	}
	press(m, "down")
	if text := m.text(); strings.Contains(text, "the last line") || !strings.Contains(text, "it happened there") {
		t.Errorf("the log of another in\n%s", text)
	}
	m.Update(lookedMsg{err: errors.New("cannot list"), at: time.Now()})
	if text := m.text(); !strings.Contains(text, "cannot list") {
		t.Errorf("\n%s", text)
	}
}

func TestSpark(t *testing.T) {
	t.Parallel()
	for want, values := range map[string][]float64{
		"    ": nil, "  ▁▁": {0, 0}, " ▁▅█": {0, 1, 2}, " ▁ █": {0, unknown, 2}, "▃▅▆█": {9, 1, 2, 3, 4},
	} {
		if got := spark(values, 4); got != want {
			t.Errorf("%v: %q, want %q", values, got, want)
		}
	}
}
