package top

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/table"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Lines that are always there: the head, the titles of the table, and the foot.
const always = 3

// smallest is the height from which on the chosen replica has a part of the screen.
const smallest = 14

const keys = "? help  q quit  ↑↓ choose  enter detail  / filter  s stop  a start  r restart  x reset  h hold  u unhold"

// View draws the screen.
func (m *Model) View() tea.View {
	v := tea.NewView(strings.Join(m.frame(), "\n"))
	v.AltScreen = true
	return v
}

// rows is how many replicas the screen has room for.
func (m *Model) rows() int {
	room := max(1, m.height-always)
	switch {
	case m.full:
		return 1
	case m.height < smallest:
		return room
	}
	return max(1, min(len(m.shown()), room/2))
}

// frame is the screen, line by line: as many lines as it is high, none wider than it is wide.
func (m *Model) frame() []string {
	if m.width <= 0 || m.height <= 0 {
		return nil
	}
	lines := []string{m.head()}
	if m.mode == helping {
		all := strings.Split(help, "\n")
		foot := "any other key goes back"
		if len(all) > m.height-2 {
			foot = "↑ ↓ for more; " + foot
		}
		return m.fill(append(lines, all[min(m.first, len(all)):]...), foot)
	}
	all := m.shown()
	t := table.Table{Width: max(1, m.width-2), Colour: m.colour, Now: m.looked}
	rows := t.Rows(all)
	lines = append(lines, "  "+rows[0])
	for i := m.first; i < min(m.first+m.rows(), len(all)); i++ {
		mark := "  "
		if all[i].ID() == m.chosen {
			mark = "> "
		}
		lines = append(lines, mark+rows[i+1])
	}
	if len(all) == 0 {
		lines = append(lines, "  "+m.nothing())
	}
	if i := place(all, m.chosen); i >= 0 && (m.full || m.height >= smallest) {
		lines = append(lines, m.detail(all[i], m.height-len(lines)-1)...)
	}
	return m.fill(lines, m.foot())
}

// nothing says why there is no row.
func (m *Model) nothing() string {
	switch {
	case m.looked.IsZero():
		return "looking …"
	case m.filter != "":
		return fmt.Sprintf("no replica has %q; esc shows all", m.filter)
	case m.err != nil:
		return ""
	}
	return "no replica has run here"
}

// head says how many there are and how they are.
func (m *Model) head() string {
	count := map[provisioner.State]int{}
	for _, s := range m.all {
		count[s.State]++
	}
	text := fmt.Sprintf("%d replicas", len(m.all))
	for _, state := range []provisioner.State{
		provisioner.StateReady, provisioner.StatePreparing, provisioner.StateStarting, provisioner.StateDraining, provisioner.StateStopping,
		provisioner.StateFailed, provisioner.StateStopped, provisioner.StateNew,
	} {
		if count[state] > 0 {
			text += fmt.Sprintf(", %d %s", count[state], table.Word(state))
		}
	}
	if care := table.Care(m.all); care != "" {
		text += "; " + care
	}
	if m.err != nil {
		text, _, _ = strings.Cut(m.err.Error(), "\n")
		text = tail.Clean(text)
	}
	if !m.looked.IsZero() {
		text = m.looked.Format("15:04:05") + "  " + text
	}
	return text
}

// foot is what keys are for now, and what came of the last action.
func (m *Model) foot() string {
	switch m.mode {
	case filtering:
		return "filter: " + m.typed + "█  (enter keeps it, esc ends it)"
	case confirming:
		return fmt.Sprintf("%s %s? y does it, any other key does not", m.action, name(m.about))
	case reasoning:
		return fmt.Sprintf("hold %s, why? %s█  (esc does not)", name(m.about), m.typed)
	}
	if m.told != "" {
		return m.told
	}
	return keys
}

// detail is the part about the chosen replica, in at most room lines.
func (m *Model) detail(s provisioner.Status, room int) []string {
	var lines []string
	if room > 10 {
		lines = append(lines, "")
	}
	past := m.past[s.ID()]
	if past == nil {
		past = &history{}
	}
	for _, one := range []struct {
		title  string
		values []float64
		now    string
	}{
		{"tokens/s", past.tokens, table.Tokens(s)},
		{"requests", past.requests, table.Requests(s)},
		{"memory", past.memory, table.Memory(s)},
	} {
		lines = append(lines, fmt.Sprintf("%-9s %s %s", one.title, spark(one.values, min(samples, max(8, m.width/2))), one.now))
	}
	lines = append(lines, table.Details(s)...)
	events, left := m.eventsOf(s.ID()), room-len(lines)
	some := min(len(events), max(0, left/3))
	lines = append(lines, events[len(events)-some:]...)
	left = max(0, room-len(lines))
	return append(lines, m.log[max(0, len(m.log)-left):]...)
}

// fill makes lines as many as the screen has, with the foot below, and none too wide.
func (m *Model) fill(lines []string, foot string) []string {
	lines = lines[:min(len(lines), max(0, m.height-1))]
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines, foot)
	for i, line := range lines {
		if !strings.Contains(line, "\x1b") { // rows with a colour fit already
			lines[i] = table.Shorten(line, m.width)
		}
	}
	return lines
}
