package top

import (
	"context"
	"errors"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
)

// Run shows the screen on a terminal until its user quits, or ctx ends, and leaves the terminal as it was, also after a mistake of
// its own. What was asked for and cannot be left to a manager is finished behind that, which say tells. The error is ctx's cause,
// or of the terminal.
func Run(ctx context.Context, source Source, in, out *os.File, colour bool, say func(string)) error {
	shown, cancel := context.WithCancel(ctx)
	defer cancel()
	m := New(shown, source, colour)
	// Signals are the command's matter, which ends ctx.
	_, err := tea.NewProgram(m, tea.WithContext(shown), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler()).Run()
	cancel()
	finished := make(chan struct{})
	go func() { m.acting.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(period):
		say("finishing what was asked for")
		<-finished
	}
	if ctx.Err() != nil && errors.Is(err, tea.ErrProgramKilled) {
		return context.Cause(ctx)
	}
	return err
}
