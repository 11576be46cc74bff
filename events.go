package provisioner

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Event is something that happened to a launch. No event contains a secret.
type Event struct {
	Time time.Time `json:"time"`
	// Seq is the event's number in its state directory. Numbers grow, over managers as well, which leave a gap between them.
	// 0 says that it has none: a progress, or one that no fleet has told.
	Seq      uint64    `json:"seq,omitempty"`
	Pool     string    `json:"pool"`
	Replica  string    `json:"replica"`
	LaunchID string    `json:"launch_id,omitempty"`
	Kind     EventKind `json:"event"`
	State    State     `json:"state"`
	From     State     `json:"from,omitempty"` // with EventState: the state before
	// Took is, in seconds, with EventState how long the state before lasted, so that of a ready launch is its load; with
	// EventRecovery how long the recovery took.
	Took     float64      `json:"took,omitempty"`
	Attempt  int          `json:"attempt,omitempty"` // of a supervised launch: 1, and 1 more for each failure since the replica was stable
	PID      int          `json:"pid,omitempty"`
	Cause    engine.Cause `json:"cause,omitempty"`     // with StateFailed: why
	ExitCode *int         `json:"exit_code,omitempty"` // of an engine that ended, where it is known; -1 when a signal ended it
	Message  string       `json:"message,omitempty"`   // for people
	Handoff  *Handoff     `json:"handoff,omitempty"`   // with StateReady, of EventState and EventRecovery
	Recovery Recovery     `json:"recovery,omitempty"`  // with EventRecovery: what was done
	Restarts *Restarts    `json:"restarts,omitempty"`  // with EventRestart; the next try is at its RetryAt
	Progress *Progress    `json:"progress,omitempty"`  // with EventProgress
	Err      error        `json:"-"`                   // with EventRestart: why the launch before ended; with EventRecovery: a *GPUError, see WaitReady
	// StoppedBy is the other program that has asked for a stop, with the states from StateDraining on. Message tells how that
	// went.
	StoppedBy *Stopper `json:"stopped_by,omitempty"`
	// Missed is how many events the reader has missed between the one before and this one, because it was too slow.
	Missed int `json:"missed,omitempty"`
}

// ID returns the replica's name; that of an event of the state directory as a whole is empty.
func (e Event) ID() ReplicaID { return ReplicaID{e.Pool, e.Replica} }

// EventKind says what kind of thing happened.
type EventKind string

// The kinds of events.
const (
	EventState    EventKind = "state"    // the launch changed its state
	EventNote     EventKind = "note"     // worth telling, changes nothing
	EventRestart  EventKind = "restart"  // a supervisor will start the replica again at Restarts.RetryAt, or has given it up
	EventRecovery EventKind = "recovery" // what a supervisor did about what an earlier one had left
	EventProgress EventKind = "progress" // how far a preparation is, a few times a second; these are not kept in the file of events
)

// Progress is how far one step of a preparation is: of a download, or of a build.
type Progress struct {
	Step      Step    `json:"step"`
	What      string  `json:"what"`                // such as "llama-server" or "chat.gguf"
	Done      int64   `json:"done"`                // bytes of a download; else parts, or percent of 100
	Total     int64   `json:"total,omitempty"`     // 0 where it is not known
	Rate      float64 `json:"rate,omitempty"`      // of a download: bytes a second of late
	Remaining float64 `json:"remaining,omitempty"` // seconds; 0 where that cannot be told
	Waiting   bool    `json:"waiting,omitempty"`   // another process does it, and this one waits for it
	Holder    string  `json:"holder,omitempty"`    // for people: whom it waits for, such as "pid 4711 (since 2026-11-24 13:04:05)"; "" where that is not known
}

// Step says what is done in a preparation.
type Step string

// The steps.
const (
	StepDownload  Step = "download"  // a file, in bytes
	StepUnpack    Step = "unpack"    // an archive
	StepFetch     Step = "fetch"     // a source tree
	StepConfigure Step = "configure" // a build
	StepBuild     Step = "build"     // an executable
	StepResolve   Step = "resolve"   // which versions of a package and of what it needs are to be installed
	StepInstall   Step = "install"   // a package with all that it needs
	StepLoad      Step = "load"      // a model, by the engine, in bytes; told by Status alone
)

var stepWords = map[Step]string{
	StepDownload: "downloading", StepUnpack: "unpacking", StepFetch: "fetching", StepConfigure: "configuring",
	StepBuild: "building", StepResolve: "resolving", StepInstall: "installing", StepLoad: "loading",
}

func (p Progress) inBytes() bool { return p.Step == StepDownload || p.Step == StepLoad }

// String returns a text for people, such as "downloading chat.gguf: 1.2 GB of 4.7 GB, 85 MB/s, 41s left".
func (p Progress) String() string {
	words := stepWords[p.Step]
	if p.Waiting {
		return "waiting for " + cmp.Or(p.Holder, "another process") + " that is " + words + " " + p.What
	}
	number := func(n int64) string { return fmt.Sprint(n) }
	if p.inBytes() {
		number = fetch.Bytes
	}
	var parts []string
	switch {
	case p.Total == 100 && !p.inBytes():
		parts = append(parts, fmt.Sprintf("%d %%", p.Done))
	case p.Total > 0:
		parts = append(parts, number(p.Done)+" of "+number(p.Total))
	case p.Done > 0:
		parts = append(parts, number(p.Done))
	}
	if p.Rate > 0 {
		parts = append(parts, number(int64(p.Rate))+"/s")
	}
	if left := time.Duration(p.Remaining * float64(time.Second)).Round(time.Second); left > 0 {
		parts = append(parts, left.String()+" left")
	}
	if len(parts) == 0 {
		return words + " " + p.What
	}
	return words + " " + p.What + ": " + strings.Join(parts, ", ")
}

// listener is told how a preparation goes.
type listener interface {
	progress(now Progress)
	note(message string)
}

// acquiring tells a listener how an executable is got.
func acquiring(tell listener) acquire.Listener {
	return acquire.Listener{Note: tell.note, Progress: func(p acquire.Progress) {
		tell.progress(Progress{
			Step: Step(p.Step), What: p.What, Done: p.Done, Total: p.Total, Rate: p.Rate, Remaining: p.Remaining, Waiting: p.Waiting,
			Holder: p.Holder,
		})
	}}
}

// progress tells how far a preparation is.
func (p *EngineProvisioner) progress(now Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.emit(Event{Kind: EventProgress, Progress: &now})
}

// endPatience bounds the wait for another program's word.
const endPatience = 2 * time.Second

// addEnd keeps how a launch ended that was stopped by a program which is no manager, unless it is told already: a manager
// that looks after the replica tells it, and is given the time.
func addEnd(dir string, e Event) error {
	told := func() bool {
		told, last := tellsEnd(dir, e.LaunchID)
		if e.Seq = last + 1; state.Managed(dir) { // which is about to give that number to another
			e.Seq = 0
		}
		return told
	}
	for deadline := time.Now().Add(endPatience); state.Managed(dir) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if told() {
			return nil
		}
	}
	return state.Events{Dir: dir}.AddUnless(&e, told)
}

// tellsEnd reports whether the end of a launch is among the events, and the number of the last one. What cannot be read
// tells nothing.
func tellsEnd(dir, launchID string) (told bool, last uint64) {
	for e, err := range state.ReadEvents[Event](context.Background(), dir, false) {
		if err != nil {
			continue
		}
		told = told || e.LaunchID == launchID && e.Kind == EventState && e.State.Final()
		last = max(last, e.Seq)
	}
	return told, last
}
