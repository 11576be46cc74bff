package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
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

	Restarts *Restarts `json:"restarts,omitempty"` // of a supervised replica
	Outdated bool      `json:"outdated,omitempty"` // it was launched differently from its present configuration
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
func Statuses(stateDir string, opts ...Option) ([]Status, error) {
	state, err := stateDirectory(stateDir)
	if err != nil {
		return nil, err
	}
	stems, err := recordedReplicas(state)
	if err != nil {
		return nil, err
	}
	var all []Status
	var failed error
	for _, stem := range stems {
		files := replicaFiles{state: state, stem: stem}
		rec, err := files.readRecord()
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		all = append(all, files.status(rec, newOptions(opts)))
	}
	slices.SortFunc(all, func(a, b Status) int {
		return strings.Compare(a.Pool+"\x00"+a.Replica, b.Pool+"\x00"+b.Replica)
	})
	return all, failed
}

// status is what a record says, corrected by what is true now.
func (f replicaFiles) status(rec record, opts options) Status {
	s := statusOfRecord(rec)
	if rec.State.Final() {
		s.PID = 0
		return s
	}
	if inst, err := opts.find(context.Background(), f, rec); err == nil { // else the record is all that there is
		defer inst.Release()
		if inst.Exited() {
			s.State, s.PID = StateFailed, 0
			s.Exit = diedUnwatched
			return s
		}
		s.PID = inst.PID()
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

// recordedReplicas names the replicas that have a record.
func recordedReplicas(state string) ([]string, error) {
	// Glob hides why it finds nothing, and of a folder that cannot be read nobody may say that nothing runs.
	if _, err := os.ReadDir(state); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the replicas: %w", err)
	}
	paths, err := filepath.Glob(filepath.Join(escapeGlob(state), "*", "record.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot list %q: %w", state, err)
	}
	for i, path := range paths {
		paths[i] = filepath.Base(filepath.Dir(path))
	}
	return paths, nil
}

var globMeta = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

func escapeGlob(path string) string { return globMeta.Replace(path) }
