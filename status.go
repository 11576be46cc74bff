package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/holds"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/usage"
)

// diedUnwatched is told for the exit of an engine whose parent was gone before it.
const diedUnwatched = "died while no provisioner watched"

// Status is where a replica stands.
type Status struct {
	Pool      string    `json:"pool"`
	Replica   string    `json:"replica"`
	Engine    string    `json:"engine"`
	Version   string    `json:"engine_version,omitempty"`
	State     State     `json:"state"`
	LaunchID  string    `json:"launch_id,omitempty"`
	PID       int       `json:"pid,omitempty"` // 0 when no process runs
	URL       string    `json:"url,omitempty"`
	Model     string    `json:"model,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Heard     string    `json:"heard,omitempty"` // what a loading engine answered last, such as "503 Service Unavailable: Loading model"
	Exit      string    `json:"exit,omitempty"`  // how it ended
	Log       string    `json:"log,omitempty"`   // path of the launch's log
	// Devices are the GPUs that the launch was given, by UUID or as [Handoff] names them; nil on the CPU.
	Devices []string `json:"devices,omitempty"`
	// Failure is why the launch failed, for whoever has the launch: a fleet or an EngineProvisioner of this program.
	Failure *Failure `json:"failure,omitempty"`
	// Drained says that it is out of service, by [EngineProvisioner.Drain], though its engine is ready.
	Drained bool `json:"drained,omitempty"`
	// StoppedBy is another program that has asked for the launch's stop, for whoever has the launch.
	StoppedBy *report.Stopper `json:"stopped_by,omitempty"`
	// Hold says who keeps the replica stopped, and why; nil when nobody does.
	Hold *hold.Hold `json:"hold,omitempty"`

	// Progress is how far its preparation or its load is; nil where there is none, or nobody tells: of a load, fleet.Measure does.
	Progress *report.Progress `json:"progress,omitempty"`
	// Manager is the pid of the manager that looks after it; 0 when nobody does.
	Manager int `json:"manager_pid,omitempty"`
	// Usage is what the launch takes and does, where that was measured, as by fleet.Measure.
	Usage *usage.Usage `json:"usage,omitempty"`

	Restarts *report.Restarts `json:"restarts,omitempty"` // of a managed replica, while its manager is there
	Outdated bool             `json:"outdated,omitempty"` // it was launched differently from what its manager was told
	// Differs is by what; nil when it is not outdated, or a manager of an earlier version does not tell.
	Differs []report.Difference `json:"differs,omitempty"`
}

// ID returns the replica's name.
func (s Status) ID() ReplicaID { return ReplicaID{s.Pool, s.Replica} }

// Status returns where the launch stands now.
func (p *EngineProvisioner) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{Pool: p.cfg.PoolID, Replica: p.cfg.ReplicaID, Engine: p.cfg.Engine}
	if p.run != nil {
		s = statusOfRecord(*cmp.Or(p.final, &p.run.rec))
	}
	s.State, s.Heard, s.StoppedBy, s.Drained = p.state, p.heard, p.by, p.withdrawn
	s.Version = cmp.Or(p.handoff.EngineVersion, s.Version) // some executables cannot tell before they run
	if s.State.Final() {
		s.PID = 0
	}
	if s.State == StateFailed {
		s.Failure = failureOf(p.err)
	}
	return s
}

func statusOfRecord(rec record) Status {
	var devices []string
	for _, g := range rec.Launch.GPUs {
		devices = append(devices, g.ID())
	}
	return Status{
		Devices: devices,
		Pool:    rec.Pool, Replica: rec.Replica, Engine: rec.Engine, Version: rec.Version, State: rec.State,
		LaunchID: rec.LaunchID, PID: rec.Process.PID, URL: rec.url(), Model: rec.Model,
		StartedAt: rec.StartedAt, EndedAt: rec.EndedAt, Exit: rec.Exit, Log: rec.Log, Drained: rec.Withdrawn && !rec.State.Final(),
	}
}

// Statuses returns the status of every replica that has a record in the state directory ("" means .runtime), sorted by pool and
// replica. It changes nothing: an engine that died while no provisioner watched is told as failed. A record that cannot be
// read is an error beside the rest. Of opts, those matter that add a Launcher: without it, of its launches only the record is
// told. Package fleet tells what a manager remembers, too.
func Statuses(stateDir string, opts ...Option) ([]Status, error) {
	dir, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	stems, err := state.List(dir, state.RecordName)
	if err != nil {
		return nil, err
	}
	var all []Status
	var failed error
	for _, stem := range stems {
		files := state.In(dir, stem)
		rec, err := readRecord(files)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile, or a loss of power has taken it
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		s, err := statusIn(files, rec, newOptions(opts))
		failed = errors.Join(failed, err)
		s.Hold = holds.Of(files, time.Now())
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.Replica, b.Replica))
	})
	return all, failed
}

// statusIn is what a record says, corrected by what is true now. With an error it is what the record says.
func statusIn(f state.Files, rec record, opts options) (Status, error) {
	s := statusOfRecord(rec)
	if rec.State.Final() {
		s.PID = 0
		return s, nil
	}
	switch inst, err := opts.find(context.Background(), f, rec); {
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, perform.ErrNoLauncher): // the record is all that there is
	case err != nil:
		return s, fmt.Errorf("cannot tell whether %s/%s runs: %w", rec.Pool, rec.Replica, err)
	default:
		defer inst.Release()
		if rec.State == StatePreparing && state.Locked(f.LockPath()) {
			return s, nil // its start is under way: it has no process yet
		}
		if inst.Exited() {
			s.State, s.PID = StateFailed, 0
			s.Exit = diedUnwatched
			if exit := inst.Exit(); exit.Known { // a container's runtime knows
				s.Exit = exit.String()
			}
			return s, nil
		}
		s.PID = inst.PID()
	}
	h, err := ReadHandoff(f.Handoff())
	switch {
	case rec.State == StateDraining:
	case rec.Desired == desiredStopped:
		s.State = StateStopping
	case rec.Withdrawn:
		s.State = StateReady
	case err == nil && h.Process != nil && h.Process.LaunchID == rec.LaunchID:
		s.State, s.Version = StateReady, h.EngineVersion
	}
	return s, nil
}

var globMeta = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

func escapeGlob(path string) string { return globMeta.Replace(path) }

// State is where a launch stands.
//
//	from \ to   preparing starting ready draining stopping stopped failed
//	new             x        .       .      .        .        x      x
//	preparing       .        x       .      .        x        x      x
//	starting        .        .       x      x        x        .      x
//	ready           .        .       .      x        x        .      x
//	draining        .        .       .      .        x        .      x
//	stopping        .        .       .      .        .        x      x
//
// stopped and failed are final. A launch that is attached to begins at starting, ready or draining.
type State string

// The states.
const (
	StateNew       State = "new"
	StatePreparing State = "preparing" // the executable and the model are being looked at
	StateStarting  State = "starting"  // the engine runs and loads
	StateReady     State = "ready"     // proven ready; the handoff file exists
	StateDraining  State = "draining"  // requests in flight are waited for
	StateStopping  State = "stopping"  // signalled
	StateStopped   State = "stopped"   // ended because it was asked to
	StateFailed    State = "failed"    // ended otherwise, or could not be started
)

var transitions = map[State][]State{
	StateNew:       {StatePreparing, StateStopped, StateFailed},
	StatePreparing: {StateStarting, StateStopping, StateStopped, StateFailed},
	StateStarting:  {StateReady, StateDraining, StateStopping, StateFailed},
	StateReady:     {StateDraining, StateStopping, StateFailed},
	StateDraining:  {StateStopping, StateFailed},
	StateStopping:  {StateStopped, StateFailed},
}

// Final reports whether a launch in state s has ended.
func (s State) Final() bool { return s == StateStopped || s == StateFailed }

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
	Took     float64          `json:"took,omitempty"`
	Attempt  int              `json:"attempt,omitempty"` // of a managed launch: 1, and 1 more for each failure since the replica was stable
	PID      int              `json:"pid,omitempty"`
	Cause    engine.Cause     `json:"cause,omitempty"`     // with StateFailed: why
	ExitCode *int             `json:"exit_code,omitempty"` // of an engine that ended, where it is known; -1 when a signal ended it
	Message  string           `json:"message,omitempty"`   // for people
	Handoff  *Handoff         `json:"handoff,omitempty"`   // with StateReady, of EventState and EventRecovery
	Recovery report.Recovery  `json:"recovery,omitempty"`  // with EventRecovery: what was done
	Restarts *report.Restarts `json:"restarts,omitempty"`  // with EventRestart; the next try is at its RetryAt
	Progress *report.Progress `json:"progress,omitempty"`  // with EventProgress
	Err      error            `json:"-"`                   // with EventRestart: why the launch before ended; with EventRecovery: a *GPUError, see WaitReady
	// StoppedBy is the other program that has asked for a stop, with the states from StateDraining on. Message tells how that
	// went.
	StoppedBy *report.Stopper `json:"stopped_by,omitempty"`
	// Hold says that the replica is held from now on, or still, with EventNote.
	Hold *hold.Hold `json:"hold,omitempty"`
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
	EventRestart  EventKind = "restart"  // a manager will start the replica again at Restarts.RetryAt, or has given it up
	EventRecovery EventKind = "recovery" // what a manager did about what an earlier one had left
	EventProgress EventKind = "progress" // how far a preparation is, a few times a second; these are not kept in the file of events
)

// listener is told how a preparation goes.
type listener interface {
	progress(now report.Progress)
	note(message string)
}

// acquiring tells a listener how an executable is got.
func acquiring(tell listener) acquire.Listener {
	return acquire.Listener{Note: tell.note, Progress: func(p acquire.Progress) {
		tell.progress(report.Progress{
			Step: report.Step(p.Step), What: p.What, Done: p.Done, Total: p.Total, Rate: p.Rate, Remaining: p.Remaining, Waiting: p.Waiting,
			Holder: p.Holder,
		})
	}}
}

// progress tells how far a preparation is.
func (p *EngineProvisioner) progress(now report.Progress) {
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
