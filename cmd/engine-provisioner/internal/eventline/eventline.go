// Package eventline writes an event as one line for people.
//
// The command calls it for events that are kept. It finds nothing out, and what others have written comes out fit for a terminal.
package eventline

import (
	"fmt"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/report"
)

// Text is an event in one line: when, who, what, and the details that there are.
func Text(e provisioner.Event) string {
	what := string(e.Kind)
	switch {
	case e.Kind == provisioner.EventState:
		what = string(e.State)
	case e.Kind == provisioner.EventRestart && e.Restarts != nil && e.Restarts.Phase == report.PhaseFailed:
		what = "given up"
	}
	var details []string
	detail := func(is bool, format string, args ...any) {
		if is {
			details = append(details, fmt.Sprintf(format, args...))
		}
	}
	detail(e.PID != 0, "pid %d", e.PID)
	detail(e.Attempt > 1, "attempt %d", e.Attempt)
	detail(e.Took > 0 && e.From != "" && e.From != provisioner.StateNew, "%s for %s", e.From, roughly(e.Took))
	detail(e.Took > 0 && e.From == "", "took %s", roughly(e.Took))
	if e.ExitCode != nil && *e.ExitCode >= 0 {
		detail(true, "exit code %d", *e.ExitCode)
	}
	detail(e.Cause != "", "cause %s", e.Cause)
	detail(e.StoppedBy != nil && e.State.Final(), "by %s", e.StoppedBy)
	if r := e.Restarts; r != nil {
		detail(r.Phase == report.PhaseOpen, "breaker open")
		detail(!r.RetryAt.IsZero(), "next try %s", r.RetryAt.Local().Format(time.DateTime))
	}
	name := "-"
	if e.Pool != "" {
		name = e.Pool + "/" + e.Replica
	}
	line := e.Time.Local().Format("2006-01-02 15:04:05.000") + "  " + name + "  " + what
	if len(details) > 0 {
		line += "  (" + strings.Join(details, ", ") + ")"
	}
	// The words of an error can have several lines; the first says what happened.
	// Those of a restart are told by the failure before it.
	if first, _, _ := strings.Cut(e.Message, "\n"); first != "" && e.Kind != provisioner.EventRestart {
		line += "  " + first
	}
	line = tail.Clean(line)
	if e.Missed > 0 {
		line = fmt.Sprintf("%d events are missing here\n", e.Missed) + line
	}
	return line
}

func roughly(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond).String()
}
