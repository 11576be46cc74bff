package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/table"
)

func writeLog(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "1.log")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDisplayOnTerminal(t *testing.T) {
	t.Parallel()
	log := writeLog(t, "first\nload_tensors: \x1b[31moffloading\x1b[0m 32 layers to the GPU\n")
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := &display{w: &out, size: func() (int, int, error) { return 60, 24, nil }, colour: true}
		begin := time.Now()
		time.Sleep(12*time.Second + 300*time.Millisecond)
		loads := []load{{name: "default/r0", state: provisioner.StateStarting, since: begin, done: "25%", heard: "503 Service Unavailable: Loading model", log: log}}
		d.show(loads)
		want := "⠙ default/r0 loading 25% for 12s\x1b[2m · load_tensors: offloadin…\x1b[0m\n"
		if got := out.String(); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		out.Reset()
		d.show(append(loads, load{name: "default/r1", state: provisioner.StatePreparing, since: begin}))
		if got := out.String(); !strings.HasPrefix(got, "\x1b[1A\r\x1b[J") || !strings.HasSuffix(got, "⠹ default/r1 preparing for 12s\n") {
			t.Errorf("the second frame is %q", got)
		}
		out.Reset()
		d.clear()
		d.clear()
		if got := out.String(); got != "\x1b[2A\r\x1b[J" {
			t.Errorf("cleared by %q", got)
		}
	})
}

func TestDisplayOnANarrowTerminal(t *testing.T) {
	t.Parallel()
	l := load{name: "a-pool-with-a-long-name/r0", since: time.Now(), heard: "503 Loading model"}
	if got, want := (&display{}).line(l, 39), "⠋ a-pool-with-a-long-name/r0 loading f…"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDisplayIsBounded(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := &display{w: &out, size: func() (int, int, error) { return 0, 0, os.ErrInvalid }}
	var loads []load
	for i := range 30 {
		loads = append(loads, load{name: fmt.Sprintf("default/r%d", i), since: time.Now()})
	}
	d.show(loads)
	if lines := strings.Count(out.String(), "\n"); lines != maxLoads+1 || d.drawn != lines {
		t.Errorf("%d lines, %d counted, want %d", lines, d.drawn, maxLoads+1)
	}
	if !strings.Contains(out.String(), "and 22 more\n") {
		t.Errorf("the rest is not told: %q", out.String())
	}
}

// What does not fit into the window would scroll away, and could not be cleared.
func TestDisplayFitsIntoTheWindow(t *testing.T) {
	t.Parallel()
	for height, lines := range map[int]int{0: maxLoads + 1, 1: 3, 4: 3, 6: 5, 8: 7, 24: maxLoads + 1} {
		var out bytes.Buffer
		d := &display{w: &out, size: func() (int, int, error) { return 80, height, nil }}
		d.show(slices.Repeat([]load{{name: "default/r0", since: time.Now()}}, 30))
		if got := strings.Count(out.String(), "\n"); got != lines || d.drawn != lines {
			t.Errorf("%d rows: %d lines, %d counted, want %d", height, got, d.drawn, lines)
		}
	}
}

func TestDisplayElsewhere(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := newDisplay(&out, false)
	d.redraw(func() []load { return []load{{name: "default/r0"}} })
	if out.Len() > 0 {
		t.Errorf("a plain display was redrawn: %q", out.String())
	}
	d.show([]load{{name: "default/r0", since: time.Now(), heard: "503 Service Unavailable: no room"}})
	if got, want := out.String(), "default/r0: loading for 0s; 503 Service Unavailable: no room\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text  string
		width int
		want  string
	}{
		{"short", 5, "short"},
		{"longer", 5, "long…"},
		{"with a space", 6, "with…"},
		{"模型加载", 8, "模型加载"},
		{"模型加载", 7, "模型加…"},
		{"\ttab", 5, "…"},
		{"any", 0, "…"},
		{"", 0, ""},
	}
	for _, tt := range tests {
		if got := table.Shorten(tt.text, tt.width); got != tt.want {
			t.Errorf("shorten(%q, %d) = %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
}

// TestReporterDoesNotBlock makes sure that an engine's events are taken while nobody reads our output, and that none is lost.
func TestReporterDoesNotBlock(t *testing.T) {
	t.Parallel()
	gate := make(gatedWriter)
	var out bytes.Buffer
	c := &cli{std: streams{out: writers{gate, &out}, err: &out}, screen: &out}
	r := c.newReporter()
	const n = 1000
	for i := range n {
		r.event(provisioner.Event{Pool: "p", Replica: "r0", Kind: provisioner.EventState, State: provisioner.StateReady, Message: fmt.Sprint(i)})
	}
	close(gate)
	r.close()
	if got := strings.Count(out.String(), "\n"); got != n {
		t.Errorf("%d lines, want %d", got, n)
	}
	if !strings.HasSuffix(out.String(), "p/r0 ready 999\n") {
		t.Error("events are out of order")
	}
}

// TestReporterBeginsItsTicks: time that passed before a load is none of the load's.
func TestReporterBeginsItsTicks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		c := &cli{std: streams{out: &out, err: &out}, screen: &out}
		r := c.newReporter()
		time.Sleep(plainInterval + time.Second)
		r.event(provisioner.Event{Pool: "p", Replica: "r0", Kind: provisioner.EventState, State: provisioner.StatePreparing, Time: time.Now()})
		time.Sleep(plainInterval + time.Second)
		r.close()
		if got, want := out.String(), "p/r0: preparing\np/r0: preparing for 10s\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// gatedWriter takes nothing until it is closed.
type gatedWriter chan struct{}

func (g gatedWriter) Write(p []byte) (int, error) {
	<-g
	return len(p), nil
}

type writers []interface{ Write([]byte) (int, error) }

func (w writers) Write(p []byte) (n int, err error) {
	for _, one := range w {
		n, err = one.Write(p)
	}
	return n, err
}
