package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/table"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// load is a launch that is not ready yet.
type load struct {
	name  string
	state provisioner.State
	since time.Time
	done  string // how far it is, such as "25%"; "" where that is not known
	heard string // what is done now, or what the engine answered last
	log   string // path of its log
}

const (
	redrawInterval = 100 * time.Millisecond
	plainInterval  = 10 * time.Second // often enough for a log of a CI job to show life
	maxLoads       = 8                // lines that are redrawn; more of them would push the rest off the screen
	leastHeight    = 4                // of a terminal for two loads, a line about the rest, and the cursor
)

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// display shows loads: lines that are redrawn on a terminal, and a plain line now and then elsewhere.
type display struct {
	w      io.Writer
	size   func() (width, height int, err error) // nil: no terminal
	colour bool
	drawn  int // lines on the screen that are to be redrawn
	frame  int
}

func newDisplay(w io.Writer, off bool) *display {
	d := &display{w: w}
	f, isFile := w.(*os.File)
	if off || !isFile || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return d
	}
	d.size = func() (int, int, error) { return term.GetSize(int(f.Fd())) }
	d.colour = os.Getenv("NO_COLOR") == ""
	return d
}

func (d *display) interval() time.Duration {
	if d.size != nil {
		return redrawInterval
	}
	return plainInterval
}

// show tells where the loads stand now.
func (d *display) show(loads []load) {
	if d.size == nil {
		for _, l := range loads {
			fmt.Fprintf(d.w, "%s: %s\n", l.name, strings.Join(l.words(), "; "))
		}
		return
	}
	d.clear()
	d.frame++
	width, height, err := d.size()
	if err != nil || width < 20 {
		width = 80
	}
	most := maxLoads
	if err == nil && height > 0 { // what is drawn above the first row cannot be cleared
		most = min(most, max(height, leastHeight)-2)
	}
	hidden := len(loads) - most
	for _, l := range loads[:min(len(loads), most)] {
		fmt.Fprintln(d.w, d.line(l, width-1)) // a full last column makes some terminals wrap
		d.drawn++
	}
	if hidden > 0 {
		fmt.Fprintf(d.w, "  and %d more\n", hidden)
		d.drawn++
	}
}

// redraw shows the loads again after something else was written. Without a terminal nothing was lost.
func (d *display) redraw(loads func() []load) {
	if d.size != nil {
		d.show(loads())
	}
}

// clear takes away what was drawn.
func (d *display) clear() {
	if d.drawn > 0 {
		fmt.Fprintf(d.w, "\x1b[%dA\r\x1b[J", d.drawn)
		d.drawn = 0
	}
}

func (d *display) line(l load, width int) string {
	words := l.words()
	head := fmt.Sprintf("%c %s %s", spinner[d.frame%len(spinner)], l.name, words[0])
	rest := ""
	if len(words) > 1 {
		rest = " · " + strings.Join(words[1:], " · ")
	}
	if table.Columns(head) >= width {
		return table.Shorten(head, width)
	}
	rest = table.Shorten(rest, width-table.Columns(head))
	if d.colour && rest != "" {
		rest = "\x1b[2m" + rest + "\x1b[0m"
	}
	return head + rest
}

// words tell where a load stands: since when, what the engine answered, its last log line.
func (l load) words() []string {
	verb := "loading"
	if l.state == provisioner.StatePreparing {
		verb = "preparing"
	}
	if l.done != "" {
		verb += " " + l.done
	}
	words := []string{fmt.Sprintf("%s for %s", verb, time.Since(l.since).Truncate(time.Second))}
	if heard := unlessLoading(l.heard); heard != "" {
		words = append(words, tail.Clean(heard))
	}
	if l.log != "" {
		if lines := tail.Last(tail.Lines(l.log)); len(lines) > 0 {
			words = append(words, strings.Join(strings.Fields(lines[len(lines)-1]), " ")) // llama-server pads its columns
		}
	}
	return words
}

// unlessLoading is what an engine answers, unless that says no more than that it loads.
func unlessLoading(heard string) string {
	text, unavailable := strings.CutPrefix(heard, "503")
	if unavailable && (strings.HasSuffix(text, "Service Unavailable") || strings.HasSuffix(text, "Loading model")) {
		return ""
	}
	return heard
}
