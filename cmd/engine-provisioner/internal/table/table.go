// Package table shows the status of replicas to people: as a table whose columns are dropped from the right where a terminal is
// narrow, with a line of advice below what has failed.
//
// The commands status and top call it. It measures nothing and writes nothing: it makes lines. No foreign text is in them as it
// came.
package table

import (
	"cmp"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Table is how to show replicas.
type Table struct {
	Width  int  // in columns; 0 for as many as are needed
	Colour bool // of the states
	Now    time.Time
}

// column is one of the table.
type column struct {
	title string
	right bool // numbers end below one another
	cell  func(provisioner.Status) string
}

func (t Table) columns() []column {
	return []column{
		{"POOL", false, func(s provisioner.Status) string { return s.Pool }},
		{"REPLICA", false, func(s provisioner.Status) string { return s.Replica }},
		{"STATE", false, func(s provisioner.Status) string { return State(s, t.Now) }},
		{"MODEL", false, model},
		{"ENGINE", false, func(s provisioner.Status) string {
			return cmp.Or(strings.TrimSpace(s.Engine+" "+s.Version), none)
		}},
		{"ADDRESS", false, func(s provisioner.Status) string {
			if s.PID == 0 {
				return none
			}
			return cmp.Or(s.URL, none)
		}},
		{"UP", true, func(s provisioner.Status) string { return age(s, t.Now) }},
		{"CPU", true, processors},
		{"RAM", true, Memory},
		{"VRAM", true, gpuMemory},
		{"RUN/WAIT", true, Requests},
		{"TOK/S", true, Tokens},
		{"RESTARTS", true, restarts},
		{"LAST CAUSE", false, cause},
	}
}

// kept are the first columns, which are never dropped.
const kept = 3

// state is the place of the state among the columns.
const state = 2

// Rows are the title and a row for each replica.
func (t Table) Rows(all []provisioner.Status) []string {
	columns := t.columns()
	cells := make([][]string, len(all)+1)
	widths := make([]int, len(columns))
	for i, c := range columns {
		for row := range cells {
			text := c.title
			if row > 0 {
				text = tail.Clean(c.cell(all[row-1]))
			}
			cells[row] = append(cells[row], text)
			widths[i] = max(widths[i], Columns(text))
		}
	}
	shown := fitting(widths, t.Width)
	rows := make([]string, len(cells))
	for row, texts := range cells {
		var b strings.Builder
		used := 0
		for i, text := range texts[:shown] {
			if i > 0 {
				b.WriteString("  ")
				used += 2
			}
			if t.Width > 0 && used >= t.Width {
				break
			}
			text = t.cut(text, used)
			used += widths[i]
			pad := strings.Repeat(" ", max(0, widths[i]-Columns(text)))
			if i == state && row > 0 {
				text = t.paint(all[row-1], text)
			}
			switch {
			case columns[i].right:
				text = pad + text
			case i < shown-1:
				text += pad
			}
			b.WriteString(text)
		}
		rows[row] = strings.TrimRight(b.String(), " ")
	}
	return rows
}

// fitting is how many of the columns fit into a width.
func fitting(widths []int, width int) int {
	used := 0
	for i, w := range widths {
		if used += w; width > 0 && used > width && i >= kept {
			return i
		}
		used += 2
	}
	return len(widths)
}

// Lines are the rows with the details of each replica below it, and who looks after them.
func (t Table) Lines(all []provisioner.Status) []string {
	rows := t.Rows(all)
	lines := rows[:1:1]
	for i, s := range all {
		lines = append(lines, rows[i+1])
		for _, detail := range Details(s) {
			lines = append(lines, t.cut("  "+detail, 0))
		}
	}
	if care := Care(all); care != "" {
		lines = append(lines, t.cut(care, 0))
	}
	return lines
}

// cut makes text fit into a line of which so many columns are used.
func (t Table) cut(text string, used int) string {
	if t.Width > 0 {
		return Shorten(text, t.Width-used)
	}
	return text
}

// paint gives a state its colour, which says nothing that the word does not.
func (t Table) paint(s provisioner.Status, text string) string {
	colour := "33" // yellow: under way
	switch s.State {
	case provisioner.StateReady:
		colour = "32" // green
	case provisioner.StateFailed:
		colour = "31" // red
	case provisioner.StateStopped, provisioner.StateNew:
		return text
	}
	if !t.Colour || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
