package provisioner

import (
	"cmp"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/advertise"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/footprint"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// record is what one launch leaves on disk for whoever comes next: enough to find the engine, to be sure that it is
// the one, and to end it. It is written before the engine starts and whenever the launch moves on.
type record struct {
	Schema     int    `json:"schema"`
	Generation int64  `json:"generation"` // counts the replica's launches
	Desired    string `json:"desired"`    // desiredRunning or desiredStopped
	State      State  `json:"state"`      // preparing: about to be started; starting: it runs; draining; stopping; stopped or failed: it ended
	LaunchID   string `json:"launch_id"`

	Pool    string            `json:"pool"`
	Replica string            `json:"replica"`
	Engine  string            `json:"engine"`
	Version string            `json:"engine_version,omitempty"`
	Model   string            `json:"model"`
	Host    string            `json:"host"`
	Port    int               `json:"port"`
	Grace   settings.Duration `json:"grace"`
	Settle  settings.Duration `json:"settle,omitempty"` // how long it serves without its handoff
	// Advertise is the host by which others reach it; "" means as this machine does.
	Advertise string `json:"advertise,omitempty"`
	// LoadGrace is the grace of a stop before readiness; 0 means Grace.
	LoadGrace settings.Duration `json:"load_grace,omitempty"`

	// What another provisioner needs to watch, drain and stop the engine. Secrets are references, here as in the
	// configuration.
	Dir    string              `json:"dir,omitempty"` // what relative paths refer to
	Drain  settings.Drain      `json:"drain,omitzero"`
	APIKey *settings.SecretRef `json:"api_key,omitempty"`
	Launch launchRecord        `json:"launch"`

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
	// Withdrawn says that it is out of service, though ready.
	Withdrawn bool `json:"withdrawn,omitempty"`

	Logs       settings.Logs    `json:"logs,omitzero"`
	LastFailed int64            `json:"last_failed,omitempty"` // the last launch before this one that failed; 0 for none
	Handoff    settings.Handoff `json:"handoff,omitzero"`
}

// url is where clients reach the engine.
func (r record) url() string { return probe.URL(cmp.Or(r.Advertise, port.Loopback(r.Host)), r.Port) }

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
	Spec  recordedSpec      `json:"spec"`
	GPU   engine.GPUPolicy  `json:"gpu"`
	GPUs  []engine.GPU      `json:"gpus,omitempty"` // with their memory before the start
	Ready settings.Ready    `json:"ready"`
	// Memory is what the launch was going to take, for others that start while it loads.
	Memory  []report.MemoryNeed  `json:"memory,omitempty"`
	Secrets []settings.SecretRef `json:"secrets,omitempty"` // all of them, to keep them out of errors
	// Seals tell whether the secrets that the engine was given are still those that the references lead to.
	Seals secret.Seals `json:"seals,omitzero"`
	// Footprint is what would make another launch if it changed, and Places is where to look for that.
	Footprint footprint.Footprint `json:"footprint,omitzero"`
	Places    places              `json:"places,omitzero"`
}

// recordedSpec is a description as a record has it. A record is read ten times in the life of a replica, and once for each
// other one that starts, but its patterns of causes matter when an engine has died. Compiling them is nine tenths of
// reading a record.
type recordedSpec struct {
	engine.LaunchSpec
	Unread json.RawMessage `json:"causes,omitempty"` // the causes as they were read; nil of a launch of this program
}

// MarshalJSON writes the causes, read or not, in the same place: what is to be written is compared with what was read.
func (s recordedSpec) MarshalJSON() ([]byte, error) {
	if s.Unread == nil && s.Causes != nil {
		var err error
		if s.Unread, err = json.Marshal(s.Causes); err != nil {
			return nil, err
		}
	}
	type plain recordedSpec // has no such method
	return json.Marshal(plain(s))
}

// whole is the description with its causes. Without those that cannot be read, the end of an engine is told all the same.
func (s recordedSpec) whole() engine.LaunchSpec {
	spec := s.LaunchSpec
	if s.Unread != nil && json.Unmarshal(s.Unread, &spec.Causes) != nil {
		spec.Causes = nil
	}
	return spec
}

const (
	desiredRunning = "running"
	desiredStopped = "stopped"
)

// name is the replica's, as in a configuration. A provisioner's own settings, which say it as well, can be exchanged.
func (r *record) name() string { return r.Pool + "/" + r.Replica }

// filesOf resolves the state directory; "" means .runtime in the working directory.
func filesOf(stateDir, stem string) (state.Files, error) {
	dir, err := state.Dir(stateDir)
	return state.In(dir, stem), err
}

// readRecord returns the record, fs.ErrNotExist when there is none, or what is wrong with it, and the way out.
func readRecord(f state.Files) (record, error) {
	return state.ReadRecord(f, func(data []byte, schema int) (r record, _ state.Head, err error) {
		err = json.Unmarshal(data, &r)
		if err == nil && schema == 1 {
			err = r.readSchema1(data)
		}
		return r, state.Head{LaunchID: r.LaunchID, Pool: r.Pool, Replica: r.Replica}, err
	})
}

// changeRecord writes what change makes of the record that is on disk, or of the error of reading it. It writes nothing
// when change says so. No other process changes the record meanwhile.
func changeRecord(f state.Files, change func(current record, err error) (next record, write bool)) error {
	return f.ChangeRecord(func() (any, state.Keeping) {
		next, write := change(readRecord(f))
		if !write {
			return nil, state.Nothing
		}
		return next, next.keeping()
	})
}

// writeRecord writes r, whatever is there.
func writeRecord(f state.Files, r record) error {
	return f.ChangeRecord(func() (any, state.Keeping) { return r, r.keeping() })
}

// keeping says whether the record must outlive a loss of power.
func (r record) keeping() state.Keeping {
	if r.State == StatePreparing || r.State.Final() {
		return state.Lasts
	}
	return state.Passes
}

// updateRecord writes r unless another launch has taken over, or this one has ended meanwhile.
func updateRecord(f state.Files, r record) error {
	return changeRecord(f, func(current record, err error) (record, bool) {
		return r, err != nil || current.LaunchID == r.LaunchID && !current.State.Final()
	})
}

// readSchema1 takes over what schema 1 wrote under the names that the fields of LaunchSpec had in Go. Those of one word are
// read anyway, since encoding/json takes no account of upper case.
func (r *record) readSchema1(data []byte) error {
	var old struct {
		Launch struct {
			Spec struct {
				KeyEnv, NoGPU                         string
				HealthTakes, Grace, LoadGrace         time.Duration
				DrainsItself, MustAnswer, KillsItself bool
			} `json:"spec"`
		} `json:"launch"`
	}
	if err := json.Unmarshal(data, &old); err != nil {
		return err
	}
	was, spec := old.Launch.Spec, &r.Launch.Spec
	spec.KeyEnv, spec.HealthTakes, spec.Grace, spec.LoadGrace = was.KeyEnv, was.HealthTakes, was.Grace, was.LoadGrace
	spec.DrainsItself, spec.MustAnswer, spec.KillsItself = was.DrainsItself, was.MustAnswer, was.KillsItself
	if was.NoGPU != "" {
		var err error
		if spec.NoGPU, err = regexp.Compile(was.NoGPU); err != nil {
			return err
		}
	}
	r.Schema = state.RecordSchema
	return nil
}

// find takes hold of a recorded launch.
func (o *options) find(ctx context.Context, files state.Files, rec record) (launch.Instance, error) {
	by, err := o.launchers.Performer(rec.Launch.Mode, o.cgroup)
	if err != nil {
		return nil, err
	}
	return by.Find(ctx, rec.ref(files.State))
}

// refer takes over what has become known of the launch.
func (r *record) refer(inst launch.Instance) {
	ref := inst.Ref()
	r.TempDir, r.Runtime = ref.TempDir, ref.Runtime
	if host, ok := inst.(*perform.Processes); ok {
		r.Cgroup, r.Process = host.Launch.Ref.Cgroup, host.Launch.Ref.Process
	}
	if pid := inst.PID(); pid > 0 && pid != r.Process.PID {
		r.Process = proc.Identify(pid)
	}
}

// ref is what finds the launch of a record.
func (r record) ref(state string) perform.Ref {
	return perform.Ref{
		Ref: launch.Ref{
			StateDir: state, Pool: r.Pool, Replica: r.Replica, LaunchID: r.LaunchID, StartedAt: r.StartedAt, Log: r.Log,
			TempDir: r.TempDir, Runtime: r.Runtime,
		},
		Cgroup: r.Cgroup, Process: r.Process, ShmNamed: r.ShmNamed,
	}
}

func (p *EngineProvisioner) newLogKeeper(r *run) *state.LogKeeper {
	limits := r.rec.Logs.WithDefaults()
	return state.NewLogKeeper(r.files, r.rec.Pool, state.LogLimits{
		Size: int64(limits.MaxSize), PoolSize: int64(limits.MaxPoolSize), Shown: func(bytes int64) string { return settings.Size(bytes).String() },
	}, p.opts.space, p.note)
}

// failedLaunch is the number of the last launch that failed, when the one of r is over; 0 for none.
func (r record) failedLaunch() int64 {
	if r.LaunchID == "" || r.State == StateStopped {
		return r.LastFailed
	}
	return r.Generation // one that died while nobody watched has failed, too
}

// keepLogs begins to look after the launch's log, in a goroutine. The first returned function ends that, with a last look,
// after which its end can still be read until the second one is called.
func (p *EngineProvisioner) keepLogs(r *run) (leave, closeLog func()) {
	k := r.logs
	if k == nil { // attached to
		k = p.newLogKeeper(r)
	}
	closeLog = k.Open(r.inst.PID(), r.rec.Log, &r.nameless)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := caught.Do(p.opts.logger, r.rec.name(), func() { k.Run(ctx) }); err != nil {
			p.note("the log is not kept within its limits any more: " + err.Error())
		}
	}()
	return func() { cancel(); <-done }, closeLog
}

// under is the record of the same launch under other settings.
func (r record) under(cfg ProvisionConfig, plan *launchPlan) record {
	was := r.Launch
	if plan != nil {
		r.Launch = plan.launchRecord(cfg)
		// These are of the launch as it was: with its temporary folder, and before it took any memory.
		r.Launch.Args, r.Launch.GPUs, r.Launch.Memory, r.Launch.Files = was.Args, was.GPUs, was.Memory, was.Files
		r.Launch.Flags = argsIn(r.TempDir, plan.ownFlags())
		r.Launch.Seals = was.Seals
	}
	r.Launch.Ready, r.Launch.GPU = cfg.Ready, cfg.GPU
	r.Model, r.Drain, r.Logs, r.APIKey, r.Handoff = cfg.Model.ID, cfg.Drain, cfg.Logs, cfg.APIKey, cfg.Handoff
	r.Grace, r.LoadGrace, r.Settle = cfg.Stop.Grace, 0, cfg.Stop.Settle
	if host, err := advertise.Host(cfg.Advertise); err == nil { // else the one of before stands
		r.Advertise = host
	}
	if cfg.Stop.Grace == 0 {
		r.Grace, r.LoadGrace = settings.Duration(r.Launch.Spec.Grace), settings.Duration(r.Launch.Spec.LoadGrace)
	}
	return r
}

// resettle writes the record of a launch under other settings, unless somebody has begun to end it.
func resettle(f state.Files, rec record) error {
	ending := false
	err := changeRecord(f, func(current record, err error) (record, bool) {
		ending = err == nil && (current.LaunchID != rec.LaunchID || current.State.Final() || current.Desired == desiredStopped)
		return rec, !ending
	})
	if ending {
		return errEnding
	}
	return err
}

// auth is where a client finds the engine's key: nil also where another key is there by now, which the engine does not know.
func (r *run) auth() *settings.SecretRef {
	if r.rec.APIKey == nil {
		return nil
	}
	ref, cfg := *r.rec.APIKey, ProvisionConfig{APIKey: r.rec.APIKey, Dir: r.rec.Dir}
	if len(cfg.rotated(r.rec.Launch)) > 0 {
		return nil
	}
	if ref.FromFile != "" { // a reader knows nothing of the folder of the pools file
		ref.FromFile = cfg.resolve(ref.FromFile)
	}
	return &ref
}

// ownFlags are the launch's flags that no other key says. An older version did not record which they are; its engines had
// the model and the address before them.
func (l launchRecord) ownFlags() []string {
	if l.Flags != nil {
		return l.Flags
	}
	if port := slices.Index(l.Args, "--port"); port >= 0 && port+2 <= len(l.Args) {
		return l.Args[port+2:]
	}
	return l.Args
}
