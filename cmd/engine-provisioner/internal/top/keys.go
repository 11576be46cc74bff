package top

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// actions are the keys that do something about the chosen replica.
var actions = map[string]Action{"s": Stop, "a": Start, "r": Restart, "x": Reset, "R": Reset, "h": Hold, "u": Unhold}

// help is what the keys do, in 40 columns.
const help = `↑ ↓ k j     choose a replica
PgUp PgDn   a page up, a page down
Home End    the first, the last
Enter Tab   its log and events, and back
/           filter; Esc ends that
s           stop it, and leave it so
a           start it
r           stop it, and start it again
x R         forget failures, start it
h           hold it: nobody starts it
u           end its hold
Ctrl-Z      to the shell, until "fg"
q Ctrl-C    quit; the engines run on`

var helpLines = strings.Count(help, "\n") + 1

// key acts on a key.
func (m *Model) key(k tea.KeyPressMsg) tea.Cmd {
	key := k.String()
	if key == "ctrl+c" {
		return tea.Quit
	}
	if key == "ctrl+z" {
		return tea.Suspend
	}
	switch m.mode {
	case filtering, reasoning:
		return m.typing(key, k.Text)
	case confirming:
		m.mode = browsing
		if key == "y" || key == "Y" {
			return m.do("")
		}
		m.told = "nothing was done"
		return nil
	}
	page := max(1, m.rows())
	if m.mode == helping {
		page = max(1, m.height-always+1)
	}
	m.told = ""
	switch key {
	case "up", "k":
		return m.step(-1)
	case "down", "j":
		return m.step(1)
	case "pgup", "ctrl+b":
		return m.step(-page)
	case "pgdown", "ctrl+f", "space":
		return m.step(page)
	case "home", "g":
		return m.step(-len(m.all) - helpLines)
	case "end", "G":
		return m.step(len(m.all) + helpLines)
	}
	if m.mode == helping { // any other key goes back
		m.mode, m.first = browsing, 0
		return nil
	}
	switch key {
	case "q":
		return tea.Quit
	case "enter", "tab":
		m.full = !m.full && m.chosen != (provisioner.ReplicaID{})
	case "esc":
		if m.full {
			m.full = false
		} else {
			m.filter = ""
		}
	case "/":
		m.mode, m.typed, m.full = filtering, m.filter, false
	case "?":
		m.mode, m.first = helping, 0
	default:
		m.ask(actions[key])
	}
	return nil
}

// step goes up or down.
func (m *Model) step(by int) tea.Cmd {
	if m.mode == helping {
		m.first += by
		return nil
	}
	return m.move(by)
}

// ask asks whether something is to be done about the chosen replica.
func (m *Model) ask(what Action) {
	if what == "" || place(m.all, m.chosen) < 0 {
		return
	}
	m.action, m.about, m.mode, m.typed = what, m.status(m.chosen), confirming, ""
	if what == Hold {
		m.mode = reasoning
	}
}

// typing takes a text.
func (m *Model) typing(key, text string) tea.Cmd {
	was := m.mode
	switch key {
	case "esc":
		m.mode, m.typed = browsing, ""
		if was == reasoning {
			m.told = "nothing was done"
		}
	case "enter":
		m.mode = browsing
		if was == reasoning {
			return m.do(m.typed)
		}
	case "backspace":
		if runes := []rune(m.typed); len(runes) > 0 {
			m.typed = string(runes[:len(runes)-1])
		}
	default:
		m.typed += tail.Clean(text)
	}
	if was == filtering {
		m.filter = m.typed
		m.keepChosen()
	}
	return nil
}

// do acts on the replica that the question was about.
func (m *Model) do(reason string) tea.Cmd {
	what, about := m.action, m.about
	m.told = fmt.Sprintf("%s %s …", what, name(about))
	done := make(chan tea.Msg, 1)
	m.acting.Go(func() { // also when the screen ends meanwhile
		if err := m.source.Do(m.ctx, what, about, reason); err != nil {
			done <- doneMsg{tail.Clean(strings.ReplaceAll(fmt.Sprintf("%s %s: %v", what, about.ID(), err), "\n", "; "))}
			return
		}
		done <- doneMsg{fmt.Sprintf("%s %s: done", what, name(about))}
	})
	return func() tea.Msg { return <-done }
}

// name is a replica's, fit for a terminal.
func name(s provisioner.Status) string { return tail.Clean(s.ID().String()) }
