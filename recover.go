package provisioner

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// Attach takes hold of a replica's engine that another provisioner has started, for Stop, Done and Status. It finds
// the engine by the record in the state directory ("" means .runtime) and makes sure that the process is the one that
// was recorded. When only workers of it are left, the launch is over: they are ended at once, and Done tells when.
//
// It returns ErrNotFound when there is no record; ErrNotRunning, after removing what the engine left, when the engine is
// gone; and ErrBusy when no process is seen but one holds the replica, such as a Start that is under way. What is not
// needed any more is stopped, or let go with Release. Only Linux can tell for sure that a process is still the one that
// was recorded; elsewhere Attach to a living engine returns errors.ErrUnsupported.
func Attach(stateDir, pool, replica string, opts ...Option) (*EngineProvisioner, error) {
	name := pool + "/" + replica
	if !idPattern.MatchString(pool) || !idPattern.MatchString(replica) {
		return nil, fmt.Errorf("cannot attach to %q: %w: no replica can have this name", name, ErrNotFound)
	}
	files, err := filesOf(stateDir, pool+"-"+replica)
	if err != nil {
		return nil, err
	}
	rec, err := files.readRecord()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("cannot attach to %s: %w: no record in %q", name, ErrNotFound, files.dir())
	case err != nil:
		return nil, fmt.Errorf("cannot attach to %s: %w", name, err)
	case rec.Pool != pool: // "a-b/c" and "a/b-c" have the same files
		return nil, fmt.Errorf("cannot attach to %s: %w: %q is of %s/%s", name, ErrNotFound, files.record(), rec.Pool, rec.Replica)
	}
	r := &run{
		files: files, rec: rec, started: rec.StartedAt, exited: make(chan struct{}),
		tree: treeOf(rec), killTimeout: defaultKillTimeout,
	}
	switch err := r.findLeader(); {
	case errors.Is(err, errGone):
		members, err := r.tree.members()
		if err == nil && len(members) == 0 {
			err = r.clearAway()
		}
		if err != nil {
			return nil, fmt.Errorf("cannot attach to %s: %w", name, err)
		}
	case err != nil:
		return nil, fmt.Errorf("cannot attach to %s: %w", name, err)
	}
	cfg := ProvisionConfig{
		PoolID: rec.Pool, ReplicaID: rec.Replica, Engine: rec.Engine, Host: rec.Host, Port: rec.Port, StateDir: files.state,
		Model: ModelConfig{ID: rec.Model}, Dir: rec.Dir, Drain: rec.Drain, APIKey: rec.APIKey,
	}
	p := newProvisioner(cfg.withDefaults(), newOptions(opts))
	if d := p.opts.drain; d != nil {
		p.cfg.Drain.Timeout = new(Duration(*d))
	}
	if p.opts.grace > 0 {
		r.rec.Grace = Duration(p.opts.grace)
	}
	p.run, p.state = r, StateStarting
	if h, err := ReadHandoff(files.handoff()); err == nil && h.Process != nil && h.Process.LaunchID == rec.LaunchID {
		p.state, p.handoff = StateReady, h
	}
	go p.watch(r)
	return p, nil
}

// clearAway puts away what is left of a launch of which no process is seen, and returns ErrNotRunning.
func (r *run) clearAway() error {
	if r.rec.State.Final() {
		return ErrNotRunning
	}
	// A start that is under way has no process yet, and an engine in another container is not seen from here. Both hold
	// the lock, and what is theirs must stay.
	lock, err := r.files.lock()
	if errors.Is(err, errLocked) {
		return fmt.Errorf("%w: a start is under way, or a process that cannot be seen from here holds %q", ErrBusy, r.files.lockPath())
	}
	if err != nil {
		return err
	}
	names := r.survivors() // the start may have come to its end before the lock was asked for
	lock.release()
	if names != "" {
		return fmt.Errorf("%w: it has just been started: %s; try again", ErrBusy, names)
	}
	if err := errors.Join(r.files.unpublish(r.rec.LaunchID), r.finish(StateFailed, false).err); err != nil {
		return fmt.Errorf("the engine is gone, but not what it left: %w", err)
	}
	return ErrNotRunning
}

// findLeader takes hold of the leader that the record names. A provisioner that was killed between the start and the
// record of the process leaves a record without one; then the launch's mark finds the leader: it leads its session.
func (r *run) findLeader() error {
	id := r.rec.Process
	if id.PID == 0 && !r.rec.State.Final() {
		members, err := r.tree.members()
		if err != nil {
			return err
		}
		members = slices.DeleteFunc(members, func(m procfs.Stat) bool { return m.PID != m.SID })
		if len(members) == 0 {
			return errGone
		}
		// Its workers can have sessions of their own, but are younger.
		oldest := slices.MinFunc(members, func(a, b procfs.Stat) int {
			return cmp.Or(cmp.Compare(a.StartTicks, b.StartTicks), cmp.Compare(a.PID, b.PID))
		})
		leader, err := hold(oldest.PID)
		if err != nil {
			return err
		}
		r.leader, r.tree.leader, r.rec.Process = leader, leader.identity, leader.identity
		return nil
	}
	leader, err := find(id)
	if err != nil {
		return err
	}
	r.leader, r.tree.leader = leader, id
	return nil
}

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
}

// Status is where the launch stands now.
func (p *EngineProvisioner) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{Pool: p.cfg.PoolID, Replica: p.cfg.ReplicaID, Engine: p.cfg.Engine}
	if p.run != nil {
		s = statusOfRecord(*cmp.Or(p.final, &p.run.rec))
	}
	s.State, s.Heard = p.state, p.heard
	if s.State.Final() {
		s.PID = 0
	}
	return s
}

func statusOfRecord(rec record) Status {
	return Status{
		Pool: rec.Pool, Replica: rec.Replica, Engine: rec.Engine, Version: rec.Version, State: rec.State,
		LaunchID: rec.LaunchID, PID: rec.Process.PID, URL: engineURL(loopback(rec.Host), rec.Port), Model: rec.Model,
		StartedAt: rec.StartedAt, EndedAt: rec.EndedAt, Exit: rec.Exit, Log: rec.Log,
	}
}

// Statuses tells of every replica that has a record in the state directory ("" means .runtime), sorted by pool and
// replica. It changes nothing: an engine that died while no provisioner watched is told as failed. A record that
// cannot be read is an error beside the rest.
func Statuses(stateDir string) ([]Status, error) {
	state, err := stateDirectory(stateDir)
	if err != nil {
		return nil, err
	}
	// Glob hides why it finds nothing, and of a folder that cannot be read nobody may say that nothing runs.
	if _, err := os.ReadDir(state); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the replicas: %w", err)
	}
	paths, err := filepath.Glob(filepath.Join(escapeGlob(state), "*", "record.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot list %q: %w", state, err)
	}
	var all []Status
	var failed error
	for _, path := range paths {
		files := replicaFiles{state: state, stem: filepath.Base(filepath.Dir(path))}
		rec, err := files.readRecord()
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		all = append(all, files.status(rec))
	}
	slices.SortFunc(all, func(a, b Status) int {
		return strings.Compare(a.Pool+"\x00"+a.Replica, b.Pool+"\x00"+b.Replica)
	})
	return all, failed
}

// status is what a record says, corrected by what is true now.
func (f replicaFiles) status(rec record) Status {
	s := statusOfRecord(rec)
	if rec.State.Final() {
		s.PID = 0
		return s
	}
	r := run{rec: rec, tree: treeOf(rec)}
	switch err := r.findLeader(); {
	case errors.Is(err, errors.ErrUnsupported): // the record is all that there is
	case err != nil:
		s.State, s.PID = StateFailed, 0
		s.Exit = diedUnwatched
		return s
	default:
		r.leader.close()
		s.PID = r.leader.PID
	}
	h, err := ReadHandoff(f.handoff())
	switch {
	case rec.State == StateDraining:
	case rec.Desired == desiredStopped:
		s.State = StateStopping
	case err == nil && h.Process != nil && h.Process.LaunchID == rec.LaunchID:
		s.State = StateReady
	}
	return s
}

var globMeta = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

func escapeGlob(path string) string { return globMeta.Replace(path) }
