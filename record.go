package provisioner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/footprint"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// recordSchema is 2 since the fields of LaunchSpec have names of their own; see readSchema1.
const recordSchema = 2

// record is what one launch leaves on disk for whoever comes next: enough to find the engine, to be sure that it is
// the one, and to end it. It is written before the engine starts and whenever the launch moves on.
type record struct {
	Schema     int    `json:"schema"`
	Generation int64  `json:"generation"` // counts the replica's launches
	Desired    string `json:"desired"`    // desiredRunning or desiredStopped
	State      State  `json:"state"`      // preparing: about to be started; starting: it runs; draining; stopping; stopped or failed: it ended
	LaunchID   string `json:"launch_id"`

	Pool    string   `json:"pool"`
	Replica string   `json:"replica"`
	Engine  string   `json:"engine"`
	Version string   `json:"engine_version,omitempty"`
	Model   string   `json:"model"`
	Host    string   `json:"host"`
	Port    int      `json:"port"`
	Grace   Duration `json:"grace"`
	// LoadGrace is the grace of a stop before readiness; 0 means Grace.
	LoadGrace Duration `json:"load_grace,omitempty"`

	// What another provisioner needs to watch, drain and stop the engine. Secrets are references, here as in the
	// configuration.
	Dir    string       `json:"dir,omitempty"` // what relative paths refer to
	Drain  DrainConfig  `json:"drain,omitzero"`
	APIKey *SecretRef   `json:"api_key,omitempty"`
	Launch launchRecord `json:"launch"`

	Process   proc.ID   `json:"process,omitzero"`
	Cgroup    string    `json:"cgroup,omitempty"` // the folder of the launch's own cgroup
	TempDir   string    `json:"temp_dir"`
	Runtime   string    `json:"runtime,omitempty"`   // the socket of the container's runtime
	ShmNamed  []string  `json:"shm_named,omitempty"` // what the configuration names in /dev/shm: it is not the launch's
	Log       string    `json:"log"`
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Exit      string    `json:"exit,omitempty"` // how it ended, for people

	Stop *recordedStop `json:"stop,omitempty"` // once somebody has begun to stop it

	Logs       LogsConfig    `json:"logs,omitzero"`
	LastFailed int64         `json:"last_failed,omitempty"` // the last launch before this one that failed; 0 for none
	Handoff    HandoffConfig `json:"handoff,omitzero"`
}

// launchRecord is what was launched: with it, another provisioner can carry on with the readiness of an engine, or watch
// it. References to secrets are in it, never secrets.
type launchRecord struct {
	ConfigHash string `json:"config_hash"` // of what would be run, for versions that know no Footprint
	Mode       string `json:"provisioning_mode"`
	Digest     string `json:"digest"` // of the executable
	ModelPath  string `json:"model_path"`
	// Files are those of the model, as they were at the start.
	Files []filestamp.Stamp `json:"model_files,omitempty"`
	Args  []string          `json:"args"`
	Flags []string          `json:"flags"` // those of Args that no other key says; nil in records of older versions
	Spec  engine.LaunchSpec `json:"spec"`
	GPU   GPUPolicy         `json:"gpu"`
	GPUs  []engine.GPU      `json:"gpus,omitempty"` // with their memory before the start
	Ready ReadyConfig       `json:"ready"`
	// Memory is what the launch was going to take, for others that start while it loads.
	Memory  []MemoryNeed `json:"memory,omitempty"`
	Secrets []SecretRef  `json:"secrets,omitempty"` // all of them, to keep them out of errors
	// Footprint is what would make another launch if it changed, and Places is where to look for that.
	Footprint footprint.Footprint `json:"footprint,omitzero"`
	Places    places              `json:"places,omitzero"`
}

const (
	desiredRunning = "running"
	desiredStopped = "stopped"
)

// name is the replica's, as in a configuration. A provisioner's own settings, which say it as well, can be exchanged.
func (r *record) name() string { return r.Pool + "/" + r.Replica }

// replicaFiles are the files of one replica.
type replicaFiles struct{ state.Files }

func filesIn(dir, stem string) replicaFiles { return replicaFiles{state.In(dir, stem)} }

// filesOf resolves the state directory; "" means .runtime in the working directory.
func filesOf(stateDir, stem string) (replicaFiles, error) {
	state, err := state.Dir(stateDir)
	return filesIn(state, stem), err
}

// errNewerRecord says that a record was written by a newer version, whose engine may run.
var errNewerRecord = errors.New("it was written by a newer version")

// readRecord returns the record, fs.ErrNotExist when there is none, or what is wrong with it, and the way out.
func (f replicaFiles) readRecord() (record, error) {
	data, err := state.Read(f.Record())
	if err != nil {
		return record{}, err
	}
	var r record
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err == nil && head.Schema > recordSchema { // the rest may have other types
		return record{}, fmt.Errorf("cannot read the record %q: %w (schema %d, this version knows %d); use that version, or remove the file if nothing of the replica runs",
			f.Record(), errNewerRecord, head.Schema, recordSchema)
	}
	const wayOut = "remove the file: the next run ends the engine, if one is left"
	err = json.Unmarshal(data, &r)
	if err == nil && r.Schema == 1 {
		err = r.readSchema1(data)
	}
	switch {
	case err != nil:
	case r.Schema != recordSchema:
		err = fmt.Errorf("schema %d, this version knows %d", r.Schema, recordSchema)
	case r.LaunchID == "" || r.Pool+"-"+r.Replica != f.Stem:
		err = fmt.Errorf("it is not the record of %q", f.Stem)
	}
	if err != nil {
		return record{}, fmt.Errorf("cannot read the record %q: %w; %s", f.Record(), err, wayOut)
	}
	return r, nil
}

// recordPatience bounds the wait for another process's change of the record. That takes a millisecond, or as long as a busy
// disk takes to keep it.
const recordPatience = 10 * time.Second

// lockRecord keeps other processes from changing the record.
func (f replicaFiles) lockRecord() (*state.Lock, error) {
	lock, err := state.TakeLock(f.RecordLock(), recordPatience)
	if errors.Is(err, state.ErrHeld) {
		return nil, fmt.Errorf("another process has held %q for %s; see fuser", f.RecordLock(), recordPatience)
	}
	return lock, err
}

// changeRecord writes what change makes of the record that is on disk, or of the error of reading it. It writes nothing
// when change says so. No other process changes the record meanwhile.
func (f replicaFiles) changeRecord(change func(current record, err error) (next record, write bool)) error {
	lock, err := f.lockRecord()
	if err != nil {
		return fmt.Errorf("cannot write the record %q: %w", f.Record(), err)
	}
	defer lock.Release()
	next, write := change(f.readRecord())
	if !write {
		return nil
	}
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the record %q: %w", f.Record(), err)
	}
	return atomicfile.Write(f.Record(), append(data, '\n'))
}

// writeRecord writes r, whatever is there.
func (f replicaFiles) writeRecord(r record) error {
	return f.changeRecord(func(record, error) (record, bool) { return r, true })
}

// updateRecord writes r unless another launch has taken over, or this one has ended meanwhile.
func (f replicaFiles) updateRecord(r record) error {
	return f.changeRecord(func(current record, err error) (record, bool) {
		return r, err != nil || current.LaunchID == r.LaunchID && !current.State.Final()
	})
}

// clearTorn removes the halves of files whose writer was killed. It is called with the replica's lock held.
func (f replicaFiles) clearTorn() error {
	lock, err := f.lockRecord() // another process may be writing
	if err != nil {
		return err
	}
	defer lock.Release()
	return errors.Join(atomicfile.Clear(f.Record()), atomicfile.Clear(f.Handoff()))
}

// busy says who holds the replica.
func busy(files replicaFiles) error {
	rec, err := files.readRecord()
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
