package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/local"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Attach takes hold of a replica's engine that another provisioner has started, for Stop, Done and Status. It finds
// the engine by the record in the state directory ("" means .runtime) and makes sure that the process is the one that
// was recorded. When its main process is gone, the launch is over: a server that goes on gets SIGTERM and the grace period,
// workers are ended at once, and Done tells when.
//
// It returns ErrNotFound when there is no record; ErrNotRunning, after removing what the engine left, when the engine is
// gone; and ErrBusy when no process is seen but one holds the replica, such as a Start that is under way. What is not
// needed any more is stopped, or let go with Release. Only Linux can tell for sure that a process is still the one that
// was recorded; elsewhere Attach to a living engine returns errors.ErrUnsupported.
func Attach(stateDir string, id ReplicaID, opts ...Option) (*EngineProvisioner, error) {
	name, pool, replica := id.String(), id.Pool, id.Replica
	if !config.IsID(pool) || !config.IsID(replica) {
		return nil, fmt.Errorf("cannot attach to %q: %w: no replica can have this name", name, ErrNotFound)
	}
	files, err := filesOf(stateDir, id.stem())
	if err != nil {
		return nil, err
	}
	rec, err := readRecord(files)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: no record in %q", ErrNotFound, files.Dir())
	case err == nil && rec.Pool != pool: // "a-b/c" and "a/b-c" have the same files
		err = fmt.Errorf("%w: %q is of %s/%s", ErrNotFound, files.Record(), rec.Pool, rec.Replica)
	}
	var p *EngineProvisioner
	if err == nil {
		p, err = attach(context.Background(), files, rec, newOptions(opts))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot attach to %s: %w", name, err)
	}
	p.byHand, p.by = true, new(thisProgram())
	go p.watch(p.run)
	return p, nil
}

// attach takes hold of the engine of a record. What it returns has to be watched.
func attach(ctx context.Context, files state.Files, rec record, opts options) (*EngineProvisioner, error) {
	inst, err := opts.find(ctx, files, rec)
	if err != nil {
		return nil, err
	}
	r := &run{
		files: files, rec: rec, exited: make(chan struct{}), inst: inst, found: time.Now(), killTimeout: proc.KillPatience, leaveTime: defaultLeaveTime,
	}
	r.rec.refer(inst)
	r.started = r.rec.begun(time.Now())
	if inst.Exited() {
		members, err := inst.Members()
		if err == nil && len(members) == 0 {
			err = r.clearAway()
		}
		if err != nil {
			return nil, err
		}
	}
	cfg := ProvisionConfig{
		PoolID: rec.Pool, ReplicaID: rec.Replica, Engine: rec.Engine, Host: rec.Host, Port: rec.Port, StateDir: files.State,
		Model: settings.Model{ID: rec.Model}, Dir: rec.Dir, Drain: rec.Drain, Stop: settings.Stop{Settle: rec.Settle}, APIKey: rec.APIKey, Handoff: rec.Handoff,
		Advertise: rec.Advertise,
	}
	p := newProvisioner(cfg.WithDefaults(), opts)
	p.run, p.state, p.since, p.found, p.withdrawn = r, StateStarting, r.started, true, rec.Withdrawn
	if h, err := ReadHandoff(files.Handoff()); err == nil && h.Process != nil && h.Process.LaunchID == rec.LaunchID {
		p.state, p.handoff, p.since = StateReady, h, h.ReadyAt
	} else if rec.State == StateDraining {
		p.state = StateDraining
		p.early = rec.Stop != nil && rec.Stop.Early
	}
	return p, nil
}

// begun is when the launch began. What is derived from it must not change when somebody sets the clock: a load that began
// before that would seem to have taken too long.
func (r record) begun(now time.Time) time.Time {
	if age, known := r.Process.Age(); known {
		return now.Add(-age)
	}
	if r.StartedAt.After(now) {
		return now
	}
	return r.StartedAt
}

// clearAway puts away what is left of a launch of which no process is seen, and returns ErrNotRunning.
func (r *run) clearAway() error {
	if r.rec.State.Final() {
		return ErrNotRunning
	}
	// A start that is under way has no process yet, and an engine in another container is not seen from here. Both hold
	// the lock, and what is theirs must stay.
	lock, err := r.files.Lock()
	if errors.Is(err, state.ErrHeld) {
		return fmt.Errorf("%w: a start is under way, or a process that cannot be seen from here holds %q", ErrBusy, r.files.LockPath())
	}
	if err != nil {
		return err
	}
	names, err := r.survivors() // the start may have come to its end before the lock was asked for
	lock.Release()
	if err != nil {
		return err
	}
	if names != "" {
		return fmt.Errorf("%w: it has just been started: %s; try again", ErrBusy, names)
	}
	if err := errors.Join(r.files.Unpublish(r.rec.LaunchID), r.finish(StateFailed, false).err); err != nil {
		return fmt.Errorf("the engine is gone, but not what it left: %w", err)
	}
	return ErrNotRunning
}

// endOrphans ends the engine of a replica whose record is gone or, if it is there, says that nothing runs: nobody could
// watch or stop it, and it has the port and the GPU. Its processes are those that hold the replica's lock, and carry the
// mark of the same launch as one of these, or as the handoff names. Whoever carries no mark is left alone. The result is
// empty when there was nothing to do.
func endOrphans(f state.Files, recorded bool) Recovered {
	begin := time.Now()
	found := Recovered{Replica: f.Stem, Reason: "it has no record"}
	if recorded {
		found.Reason = "it has outlived its launch"
	}
	var kept ReplicaID // what a manager remembers names the replica
	if err := f.ReadRestarts(&kept); err == nil && kept.stem() == f.Stem {
		found.Pool, found.Replica = kept.Pool, kept.Replica
	}
	held, launches, err := holders(f)
	if h, unread := ReadHandoff(f.Handoff()); unread == nil && !recorded {
		found.Pool, found.Replica = h.PoolID, h.ReplicaID
		if h.Process != nil && h.Process.LaunchID != "" {
			launches[h.Process.LaunchID] = true
		}
	}
	// Of a start that has begun meanwhile: a record is older than its processes.
	if rec, unread := readRecord(f); unread == nil && !rec.State.Final() {
		delete(launches, rec.LaunchID)
	}
	ended := 0
	for id := range launches {
		n, failed := local.EndOrphans(id, recoveryBudget)
		ended += n
		err = errors.Join(err, failed)
	}
	lost := !recorded && access.Exists(f.Handoff())
	if err == nil && held && len(launches) == 0 && !recorded {
		err = fmt.Errorf("%w: a start is under way, or a process that cannot be seen from here holds %q", ErrBusy, f.LockPath())
	}
	if err == nil && (ended > 0 || lost) {
		err = errors.Join(f.Unpublish(""), f.RemovePID())
	}
	switch {
	case err != nil:
		found.Result, found.Reason, found.Err = report.RecoveredUnknown, "", err
	case ended > 0:
		found.Result = report.RecoveredStopped
	case lost:
		found.Result = report.RecoveredGone
	default:
		return Recovered{}
	}
	found.Took = time.Since(begin)
	return found
}

// holders finds the launches whose processes hold the replica's lock.
func holders(f state.Files) (held bool, launches map[string]bool, err error) {
	launches = map[string]bool{}
	if !access.Exists(f.LockPath()) {
		return false, launches, nil
	}
	lock, err := f.Lock()
	if err == nil {
		lock.Release()
		return false, launches, nil
	}
	if !errors.Is(err, state.ErrHeld) {
		return false, launches, err
	}
	all, err := procfs.Holders(f.LockPath())
	if err != nil {
		return true, launches, fmt.Errorf("cannot list the processes: %w", err)
	}
	for _, s := range all {
		if id, marked := procfs.Env(s.PID, proc.MarkEnv); s.PID != os.Getpid() && marked && id != "" {
			launches[id] = true
		}
	}
	return true, launches, nil
}

// ReplicaID names a replica. Its zero value names none.
type ReplicaID struct {
	Pool    string `json:"pool"`
	Replica string `json:"replica"`
}

// ParseReplicaID reads what String writes, such as "chat/r0".
func ParseReplicaID(name string) (ReplicaID, error) {
	pool, replica, _ := strings.Cut(name, "/")
	if !config.IsID(pool) || !config.IsID(replica) {
		return ReplicaID{}, fmt.Errorf("%q names no replica; write its pool and itself, such as chat/r0", name)
	}
	return ReplicaID{pool, replica}, nil
}

// String returns the name for people, such as "chat/r0".
func (id ReplicaID) String() string { return id.Pool + "/" + id.Replica }

// stem is the replica's part in the names of its files.
func (id ReplicaID) stem() string { return state.Stem(id.Pool, id.Replica) }

// busy says who holds the replica.
func busy(files state.Files) error {
	rec, err := readRecord(files)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: a process holds %q, and of which launch it is cannot be told: %w", ErrBusy, files.LockPath(), err)
	}
	if err != nil || rec.State.Final() {
		return fmt.Errorf("%w: another process holds %q", ErrBusy, files.LockPath())
	}
	if rec.Process.PID == 0 {
		return fmt.Errorf("%w: another provisioner is starting this replica", ErrBusy)
	}
	return fmt.Errorf("%w: it runs already (pid %d, since %s); stop it first (engine-provisioner stop)",
		ErrBusy, rec.Process.PID, rec.StartedAt.Local().Format(time.DateTime))
}
