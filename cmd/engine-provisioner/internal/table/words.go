package table

import (
	"cmp"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/bytesize"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/report"
)

// Word is a state in a word for people.
func Word(state provisioner.State) string {
	if state == provisioner.StateStarting {
		return "loading"
	}
	return string(state)
}

// State is where a replica stands, shortly: a load and a preparation with how far they are.
func State(s provisioner.Status, now time.Time) string {
	word := Word(s.State)
	switch {
	case s.State == provisioner.StateReady && s.Usage != nil && s.Usage.Asleep:
		word = "asleep"
	case s.State == provisioner.StateReady && s.Drained:
		word = "drained"
	}
	if p := s.Progress; p != nil && !s.State.Final() {
		word = strings.TrimSpace(word + " " + Done(*p))
	}
	if s.Outdated {
		return word + ", outdated"
	}
	return word + Outlook(s, now)
}

// Done is how far something is, such as "25%"; "" where that is not known, or over: a model in memory is not ready yet.
func Done(p report.Progress) string {
	if p.Done < 0 || p.Done >= p.Total {
		return ""
	}
	return fmt.Sprintf("%d%%", 100*p.Done/p.Total)
}

// Outlook says what is to come of a replica that does not run.
func Outlook(s provisioner.Status, now time.Time) string {
	switch r := s.Restarts; {
	case s.Hold != nil && s.PID == 0:
		return ", " + s.Hold.String()
	case r == nil || s.PID > 0:
		return ""
	case r.Phase == report.PhaseFailed:
		return ", given up"
	case r.Phase == report.PhaseStopped && s.State == provisioner.StateFailed:
		return ", stopped"
	case r.Phase == report.PhaseBackoff:
		return ", next try in " + until(r.RetryAt, now)
	case r.Phase == report.PhaseOpen:
		return ", breaker open, next try in " + until(r.RetryAt, now)
	}
	return ""
}

func until(at, now time.Time) string { return max(0, at.Sub(now)).Round(time.Second).String() }

// Details are what there is to say of a replica below its row, a line each: how far it is, why it failed and what to do
// about it, by what it is outdated.
func Details(s provisioner.Status) []string {
	var lines []string
	if s.Progress != nil && !s.State.Final() {
		lines = append(lines, s.Progress.String())
	}
	if s.Outdated && len(s.Differs) > 0 {
		lines = append(lines, "outdated by "+Differs(s.Differs))
	}
	if s.State == provisioner.StateFailed {
		why, advice := whyFailed(s)
		lines = append(lines, why, "-> "+advice)
	}
	for i, line := range lines {
		line, _, _ = strings.Cut(line, "\n")
		lines[i] = tail.Clean(line)
	}
	return lines
}

func whyFailed(s provisioner.Status) (why, advice string) {
	why = cmp.Or(s.Exit, "it failed")
	if s.Failure != nil {
		advice = s.Failure.Advice
	}
	if r := s.Restarts; r != nil {
		why, advice = cmp.Or(strings.TrimPrefix(r.Last, s.ID().String()+": "), why), cmp.Or(advice, r.Advice)
	}
	// An error says what to do at its end, which stands on a line of its own here.
	if advice != "" {
		why = strings.TrimSuffix(strings.TrimSuffix(why, advice), "; ")
	}
	return why, cmp.Or(advice, fmt.Sprintf("read its log: engine-provisioner logs %s", s.ID()))
}

// Differs names what differs, shortly.
func Differs(differs []report.Difference) string {
	const most = 4
	var names []string
	for i, d := range differs {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(differs)-most))
			break
		}
		names = append(names, d.String())
	}
	return strings.Join(names, ", ")
}

// Care says who looks after the replicas; "" where there is nothing to look after.
func Care(all []provisioner.Status) string {
	manager := 0
	var alone []string
	for _, s := range all {
		if s.Manager > 0 {
			manager = s.Manager
		} else if !s.State.Final() && s.State != provisioner.StateNew {
			alone = append(alone, s.ID().String())
		}
	}
	const then = ": nothing is started again when it ends"
	switch {
	case manager == 0 && len(alone) > 0:
		return "nobody looks after them" + then
	case len(alone) > 0:
		return fmt.Sprintf("the manager (pid %d) looks after them, but nobody after %s%s", manager, tail.Clean(strings.Join(alone, ", ")), then)
	case manager > 0:
		return fmt.Sprintf("the manager (pid %d) looks after them", manager)
	}
	return ""
}

const none = "-"

// model is the name of a model without its folders.
func model(s provisioner.Status) string {
	if s.Model == "" {
		return none
	}
	return Shorten(path.Base(s.Model), 40)
}

func age(s provisioner.Status, now time.Time) string {
	if s.PID == 0 || s.StartedAt.IsZero() {
		return none
	}
	switch d := max(0, now.Sub(s.StartedAt)); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

func processors(s provisioner.Status) string {
	if s.Usage == nil || s.Usage.CPU == nil {
		return none
	}
	return fmt.Sprintf("%.0f%%", 100**s.Usage.CPU)
}

// Memory is what its processes take, "-" where nobody can tell.
func Memory(s provisioner.Status) string {
	if s.Usage == nil || s.Usage.Processes == 0 {
		return none
	}
	return bytesize.Binary(uint64(max(0, s.Usage.Memory)))
}

func gpuMemory(s provisioner.Status) string {
	if s.Usage == nil || s.Usage.GPUMemory == nil {
		return none
	}
	return bytesize.Binary(uint64(max(0, *s.Usage.GPUMemory)))
}

// Requests are those that run, and those that wait; "-" where nobody can tell.
func Requests(s provisioner.Status) string {
	switch u := s.Usage; {
	case u == nil || u.Running == nil:
		return none
	case u.Waiting == nil:
		return strconv.Itoa(*u.Running)
	default:
		return fmt.Sprintf("%d/%d", *u.Running, *u.Waiting)
	}
}

// Tokens are those a second; "-" where nobody can tell.
func Tokens(s provisioner.Status) string {
	if s.Usage == nil || s.Usage.TokenRate == nil {
		return none
	}
	return fmt.Sprintf("%.1f", *s.Usage.TokenRate)
}

func restarts(s provisioner.Status) string {
	switch {
	case s.Restarts == nil && s.Manager == 0:
		return none
	case s.Restarts == nil:
		return "0"
	}
	return strconv.Itoa(s.Restarts.Total)
}

// cause is why it failed last, in a word or two.
func cause(s provisioner.Status) string {
	var c engine.Cause
	if s.Restarts != nil {
		c = s.Restarts.Cause
	}
	if s.Failure != nil {
		c = cmp.Or(c, s.Failure.Cause)
	}
	if s.State == provisioner.StateFailed && s.Exit != "" && (c == "" || c == engine.CauseUnknown) {
		return s.Exit
	}
	return cmp.Or(string(c), none)
}
