// Package top shows the replicas of a state directory live: the table of status, with sparklines, the events and the log of the one
// that is chosen, and keys to act on it.
//
// The command alone calls it. It looks and acts through the functions of a [Source], and measures nothing itself. No foreign text
// reaches the terminal as it came.
package top

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/eventline"
)

// Action is what can be done about a replica.
type Action string

// The actions.
const (
	Stop    Action = "stop"
	Start   Action = "start"
	Restart Action = "restart"
	Reset   Action = "reset"
	Hold    Action = "hold"
	Unhold  Action = "unhold"
)

// Source is where all comes from and goes to. Its functions are called by other goroutines than the terminal's, and may take their
// time.
type Source struct {
	// Look returns the replicas with what they take and do.
	Look func(context.Context) ([]provisioner.Status, error)
	// Log returns the last lines of a log, clean ones.
	Log func(path string) []string
	// Events gives events, first those of the past, until ctx ends.
	Events func(ctx context.Context, each func(provisioner.Event))
	// Do does something about a replica; reason is that of a hold. What a manager does goes on when ctx ends.
	Do func(ctx context.Context, what Action, about provisioner.Status, reason string) error
}

const (
	period     = time.Second // between two looks
	samples    = 60          // that a sparkline goes back
	keptEvents = 50          // of each replica
)

// mode is what keys are for.
type mode int

const (
	browsing mode = iota
	filtering
	confirming
	reasoning // why something is held
	helping
)

// Model is the state of the screen. Update and View are pure but for the commands that Update returns.
type Model struct {
	ctx    context.Context
	source Source

	width, height int
	colour        bool

	all    []provisioner.Status // of the last look
	err    error                // what is wrong with it
	looked time.Time            // when it was
	past   map[provisioner.ReplicaID]*history
	events map[provisioner.ReplicaID][]provisioner.Event
	log    []string // of the chosen replica

	chosen provisioner.ReplicaID
	first  int  // row that is shown first, or line of the help
	full   bool // the chosen replica has the screen
	filter string
	mode   mode
	action Action             // that is to be confirmed
	about  provisioner.Status // whom it is about
	typed  string
	told   string // what came of the last action

	incoming chan provisioner.Event
	acting   *sync.WaitGroup // what was asked for and is not done
}

// New is a screen that has seen nothing yet.
func New(ctx context.Context, source Source, colour bool) *Model {
	return &Model{
		ctx: ctx, source: source, colour: colour, past: map[provisioner.ReplicaID]*history{}, events: map[provisioner.ReplicaID][]provisioner.Event{},
		incoming: make(chan provisioner.Event, 64), acting: &sync.WaitGroup{},
	}
}

// The messages beside those of keys and sizes.
type (
	lookedMsg struct {
		all   []provisioner.Status
		err   error
		at    time.Time
		log   []string
		of    provisioner.ReplicaID // whose log that is
		extra bool                  // it was beside those that are due
	}
	dueMsg    struct{}
	eventsMsg []provisioner.Event
	doneMsg   struct{ text string }
	logMsg    struct {
		of  provisioner.ReplicaID
		log []string
	}
)

// Init begins to look.
func (m *Model) Init() tea.Cmd { return tea.Batch(m.look(false), m.follow, m.nextEvents) }

// look looks once.
func (m *Model) look(extra bool) tea.Cmd {
	id, log := m.chosen, m.status(m.chosen).Log
	return func() tea.Msg {
		all, err := m.source.Look(m.ctx)
		seen := lookedMsg{all: all, err: err, at: time.Now(), of: id, extra: extra}
		if log != "" {
			seen.log = m.source.Log(log)
		}
		return seen
	}
}

// follow takes in events until the screen ends.
func (m *Model) follow() tea.Msg {
	m.source.Events(m.ctx, func(e provisioner.Event) {
		if e.Kind == provisioner.EventProgress { // which the table shows
			return
		}
		select {
		case m.incoming <- e:
		case <-m.ctx.Done():
		}
	})
	return nil
}

// nextEvents are those that have come, many at once: each message costs a drawing.
func (m *Model) nextEvents() tea.Msg {
	const most = 1000
	select {
	case e := <-m.incoming:
		all := eventsMsg{e}
		for len(all) < most {
			select {
			case e := <-m.incoming:
				all = append(all, e)
				continue
			case <-m.ctx.Done():
			case <-time.After(period / 20):
			}
			break
		}
		return all
	case <-m.ctx.Done():
		return nil
	}
}

// Update takes in what has happened.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var then tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case lookedMsg:
		m.see(msg)
		if !msg.extra {
			then = tea.Tick(period, func(time.Time) tea.Msg { return dueMsg{} })
		}
	case dueMsg:
		then = m.look(false)
	case eventsMsg:
		for _, e := range msg {
			m.events[e.ID()] = append(m.events[e.ID()], e)
			m.events[e.ID()] = m.events[e.ID()][max(0, len(m.events[e.ID()])-keptEvents):]
		}
		then = m.nextEvents
	case logMsg:
		m.seeLog(msg)
	case doneMsg:
		m.told = msg.text
		then = m.look(true)
	case tea.KeyPressMsg:
		then = m.key(msg)
	}
	m.scroll()
	return m, then
}

// see takes in a look.
func (m *Model) see(seen lookedMsg) {
	m.all, m.err, m.looked = seen.all, seen.err, seen.at
	past := make(map[provisioner.ReplicaID]*history, len(m.all))
	for _, s := range m.all {
		h := m.past[s.ID()]
		if h == nil {
			h = &history{}
		}
		if !seen.extra {
			h.add(s)
		}
		past[s.ID()] = h
	}
	if m.err == nil { // else some may only be out of sight
		m.past = past
	}
	m.seeLog(logMsg{seen.of, seen.log})
	m.keepChosen()
}

func (m *Model) seeLog(seen logMsg) {
	if seen.of == m.chosen && seen.log != nil {
		m.log = seen.log
	}
}

// shown are the replicas that the filter lets through.
func (m *Model) shown() []provisioner.Status {
	if m.filter == "" {
		return m.all
	}
	return slices.DeleteFunc(slices.Clone(m.all), func(s provisioner.Status) bool {
		return !strings.Contains(strings.ToLower(s.ID().String()+" "+string(s.State)+" "+s.Model), strings.ToLower(m.filter))
	})
}

// status is that of a replica; the zero value when there is none.
func (m *Model) status(id provisioner.ReplicaID) provisioner.Status {
	if i := place(m.all, id); i >= 0 {
		return m.all[i]
	}
	return provisioner.Status{}
}

func place(all []provisioner.Status, id provisioner.ReplicaID) int {
	return slices.IndexFunc(all, func(s provisioner.Status) bool { return s.ID() == id })
}

// keepChosen chooses the first replica where the chosen one is not shown.
func (m *Model) keepChosen() {
	if all := m.shown(); len(all) > 0 && place(all, m.chosen) < 0 {
		m.choose(all[0].ID())
	}
}

func (m *Model) choose(id provisioner.ReplicaID) {
	if m.chosen != id {
		m.chosen, m.log = id, nil
	}
}

// move chooses another replica, so many rows away.
func (m *Model) move(by int) tea.Cmd {
	all, was := m.shown(), m.chosen
	if len(all) == 0 {
		return nil
	}
	m.choose(all[min(max(place(all, m.chosen)+by, 0), len(all)-1)].ID())
	if m.chosen == was {
		return nil
	}
	id, log := m.chosen, m.status(m.chosen).Log
	return func() tea.Msg { return logMsg{id, m.source.Log(log)} }
}

// scroll keeps the chosen row on the screen.
func (m *Model) scroll() {
	if m.mode == helping {
		m.first = max(0, min(m.first, helpLines-(m.height-always+1)))
		return
	}
	all, rows := m.shown(), m.rows()
	at := max(0, place(all, m.chosen))
	m.first = min(m.first, at)
	m.first = max(m.first, at-rows+1)
	m.first = max(0, min(m.first, len(all)-rows))
}

// eventsOf are those of a replica, the last ones last, in lines.
func (m *Model) eventsOf(id provisioner.ReplicaID) []string {
	var lines []string
	for _, e := range m.events[id] {
		lines = append(lines, strings.Split(eventline.Text(e), "\n")...)
	}
	return lines
}
