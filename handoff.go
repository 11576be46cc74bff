package provisioner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/drain"
	"github.com/llama-orch/engine-provisioner/internal/shm"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/wake"
	"github.com/llama-orch/engine-provisioner/settings"
)

// HandoffSchema is the version of the handoff file. Its first eight keys have their names, types and order in all of them;
// up to version 1, flags were the whole command line, which is args since.
const HandoffSchema = 2

// Handoff tells an orchestrator where a ready replica is. It is the content of <state>/engines/<pool>-<replica>.json,
// a file that exists exactly while the replica is ready.
type Handoff struct {
	Engine           string       `json:"engine"`
	EngineVersion    string       `json:"engine_version"`
	ProvisioningMode string       `json:"provisioning_mode"`
	URL              string       `json:"url"` // such as "http://127.0.0.1:8081"
	PoolID           string       `json:"pool_id"`
	ReplicaID        string       `json:"replica_id"`
	Model            HandoffModel `json:"model"`
	// Flags are the normalized flags: the user's and the defaults, without what other keys say, such as the model and the
	// address.
	Flags []string `json:"flags"`

	Args []string `json:"args,omitempty"` // the engine's whole command line after the executable
	// SlotsTotal is how many requests the engine computes at once; 0 means that it is not known.
	SlotsTotal int `json:"slots_total,omitempty"`
	// SlotsFree is how many of them were free at ReadyAt: all. The file is not written again when that changes.
	SlotsFree int `json:"slots_free,omitempty"`
	// DeviceMask are the GPUs in use by their indexes in PCI bus order, such as "GPU0,GPU1"; "" on the CPU.
	DeviceMask string `json:"device_mask,omitempty"`

	// OpenAIURL is the base URL of OpenAI's API, such as "http://127.0.0.1:8081/v1"; "" where the engine has none.
	OpenAIURL string `json:"openai_url,omitempty"`

	Schema     int                 `json:"schema"`
	Generation int64               `json:"generation"` // grows with each launch of the replica
	Process    *HandoffProcess     `json:"process,omitempty"`
	Devices    []string            `json:"devices,omitempty"` // UUIDs of the GPUs in use; of one without, its PCI address
	Auth       *settings.SecretRef `json:"auth,omitempty"`    // where the API key is to be found; never the key
	ReadyAt    time.Time           `json:"ready_at"`
	Answer     string              `json:"answer"` // "ok", "not_offered" or "off": what the answer proof found
}

// HandoffModel is the model of a handoff.
type HandoffModel struct {
	ID   string `json:"id"`   // the reference, as configured
	Path string `json:"path"` // the file that is served
}

// HandoffProcess identifies the engine's process; pid alone does not, since pids are used again.
type HandoffProcess struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks,string"` // field 22 of /proc/<pid>/stat
	BootID     string `json:"boot_id"`
	LaunchID   string `json:"launch_id"`
}

// ID returns the replica's name.
func (h Handoff) ID() ReplicaID { return ReplicaID{h.PoolID, h.ReplicaID} }

// Handoff returns what is handed off of a launch that is ready.
func (p *EngineProvisioner) Handoff() (h Handoff, ready bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handoff, p.state == StateReady
}

// ReadHandoff reads a handoff file. It returns fs.ErrNotExist when the replica is not ready. Keys that this version
// does not know are ignored, so that a reader goes on working when a newer provisioner adds some.
func ReadHandoff(path string) (Handoff, error) {
	data, err := state.Read(path)
	if err != nil {
		return Handoff{}, err
	}
	return decodeHandoff(path, data)
}

func decodeHandoff(path string, data []byte) (h Handoff, err error) {
	if err := state.DecodeHandoff(path, data, &h); err != nil {
		return Handoff{}, err
	}
	return h, nil
}

// HandoffEvent says that a replica became ready, or that it is not ready any more.
type HandoffEvent struct {
	Path    string  // the handoff file
	Handoff Handoff // with Removed the one that was told last; the zero value when there is none that could be read
	Removed bool    // the replica is not ready any more
	Err     error   // the file is there but cannot be read
}

// WatchHandoffs reports every handoff file in dir, which is <state>/engines: first those that are there, then each
// change. The folder need not exist yet. The channel is closed when ctx is done; until then the reader must
// read on. What changes faster than it is read may be told once, as it is in the end.
func WatchHandoffs(ctx context.Context, dir string) (<-chan HandoffEvent, error) {
	watch, err := state.Watch(ctx, dir)
	if err != nil {
		return nil, err
	}
	events := make(chan HandoffEvent)
	go func() {
		defer close(events)
		watch(func(c state.Change) bool {
			e := HandoffEvent{Path: c.Path, Removed: c.Removed, Err: c.Err}
			if c.Err == nil {
				var err error
				if e.Handoff, err = decodeHandoff(c.Path, c.Data); !c.Removed {
					e.Err = err
				}
			}
			select {
			case events <- e:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	return events, nil
}

// publish writes the handoff, if the engine is still there and wanted, and makes the launch ready.
//
// Whoever touches the handoff's file holds publishing, so that the file never outlives the readiness: the watcher and
// Stop remove it, and find the one that is being written. It is taken before mu, and mu is not held meanwhile: a disk can
// hang, and Status must not.
func (p *EngineProvisioner) publish(ctx context.Context, r *run, proven proof) (Handoff, error) {
	h := r.handoff(proven)
	p.publishing.Lock()
	defer p.publishing.Unlock()
	if err := p.wanted(r); err != nil {
		return Handoff{}, err
	}
	if ctx.Err() != nil {
		return Handoff{}, context.Cause(ctx)
	}
	if p.isWithdrawn() { // and stays so under this manager
		return h, p.becomePublished(r, h)
	}
	p.opts.Hooks.At("before_publish")
	err := r.files.Publish(h, readersOf(p.admitted()))
	if err == nil {
		r.shown.Store(true)
		p.opts.Hooks.At("after_publish")
		// Whoever stops the engine says so in the record before it removes the handoff for the last time. So either it
		// finds this one, or this finds its word.
		err = p.wanted(r)
	}
	if err == nil {
		err = p.becomePublished(r, h)
	}
	if err != nil {
		return Handoff{}, errors.Join(err, r.files.Unpublish(r.rec.LaunchID)) // it may be there, only not safe from a power cut
	}
	r.noting.Go(r.observeSoon) // for the case that it is killed later
	return h, nil
}

// observeInterval is by how much the look at an engine that has become ready is put off at most. It is a look at all processes
// of the machine, and many engines become ready together.
const observeInterval = 20 * time.Millisecond

// observeSoon looks at an engine together with others that have just become ready.
func (r *run) observeSoon() {
	if !shm.AnySince(r.rec.StartedAt) { // else what it would leave is remembered at once
		select {
		case <-r.exited:
			return
		case <-time.After(wake.Until(time.Now(), observeInterval)):
		}
	}
	_, _ = r.inst.Observe()
}

// admitted says who may read the handoff.
func (p *EngineProvisioner) admitted() settings.Handoff {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg.Handoff
}

// readersOf are who may read the handoff, for the package that writes it.
func readersOf(c settings.Handoff) state.Readers {
	return state.Readers{Mode: string(c.Mode), Group: string(c.Group)}
}

// wanted says why a launch that is about to be ready must not be: it has ended, or somebody has begun to end it.
func (p *EngineProvisioner) wanted(r *run) error {
	if r.stoppedElsewhere() {
		return errStoppedElsewhere
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wantedLocked(r)
}

func (p *EngineProvisioner) wantedLocked(r *run) error {
	if p.state != StateStarting || p.asked || closed(r.exited) || r.inst.Exited() {
		return drain.ErrExited
	}
	return nil
}

// becomePublished makes the launch ready, whose handoff is written, unless somebody has begun to end it meanwhile.
func (p *EngineProvisioner) becomePublished(r *run, h Handoff) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.wantedLocked(r); err != nil {
		return err
	}
	p.handoff = h
	p.transition(StateReady, h.URL)
	return nil
}

// refresh writes the handoff of a ready launch again where an earlier version or other settings have written it.
func (p *EngineProvisioner) refresh() {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	p.mu.Lock()
	r, h, readable, ready := p.run, p.handoff, p.cfg.Handoff, p.state == StateReady && !p.asked && !p.withdrawn
	p.mu.Unlock()
	if !ready || h.Schema >= HandoffSchema && r.files.HasReaders(readersOf(readable)) || r.stoppedElsewhere() {
		return
	}
	if h.Schema < HandoffSchema {
		at := h.ReadyAt
		h = r.handoff(proof{version: h.EngineVersion, slots: r.rec.Launch.Spec.Slots, answer: h.Answer})
		h.ReadyAt = at
	}
	if _, err := r.rewrite(h, readable); err != nil {
		p.note("the handoff stays as it was: " + err.Error())
		return
	}
	p.mu.Lock()
	p.handoff = h
	p.mu.Unlock()
}

// rewrite writes the handoff of a launch again that is ready, unless another program has begun to stop it meanwhile: that says
// so in the record before it removes the handoff for the last time, as in publish. Then the file is gone.
func (r *run) rewrite(h Handoff, readers settings.Handoff) (gone bool, err error) {
	err = r.files.Publish(h, readersOf(readers))
	if r.stoppedElsewhere() {
		return true, errors.Join(err, r.files.Unpublish(r.rec.LaunchID))
	}
	return false, err
}

// unpublish removes the handoff, also one that is just being written.
func (p *EngineProvisioner) unpublish() {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	p.opts.Hooks.At("before_unpublish")
	if err := p.run.files.Unpublish(p.run.rec.LaunchID); err != nil {
		p.note(err.Error())
	}
}

// awaitPublication returns when no handoff is being written, after the launch was let go: from then on its file is
// another provisioner's.
func (p *EngineProvisioner) awaitPublication() {
	p.publishing.Lock()
	defer p.publishing.Unlock()
}

// proof is what a launch has shown of itself on its way to readiness.
type proof struct {
	version string // that the running engine says
	slots   int    // 0 where they are not known
	answer  string // as in Handoff
}

// handoff is what is published of a launch that has proven to be ready.
func (r *run) handoff(proven proof) Handoff {
	h := Handoff{
		Engine: r.rec.Engine, EngineVersion: proven.version, ProvisioningMode: r.rec.Launch.Mode,
		URL: r.rec.url(), PoolID: r.rec.Pool, ReplicaID: r.rec.Replica,
		Model: HandoffModel{ID: r.rec.Model, Path: r.rec.Launch.ModelPath},
		Flags: r.rec.Launch.ownFlags(), Args: r.rec.Launch.Args, SlotsTotal: proven.slots, SlotsFree: proven.slots,
		Schema: HandoffSchema, Generation: r.rec.Generation, Auth: r.auth(), ReadyAt: time.Now().UTC(), Answer: proven.answer,
		Process: &HandoffProcess{
			PID: r.rec.Process.PID, StartTicks: r.rec.Process.StartTicks, BootID: r.rec.Process.BootID, LaunchID: r.rec.LaunchID,
		},
	}
	if path := r.rec.Launch.Spec.OpenAI; path != "" {
		h.OpenAIURL = h.URL + path
	}
	var mask []string
	for _, g := range r.rec.Launch.GPUs {
		h.Devices = append(h.Devices, g.ID())
		mask = append(mask, fmt.Sprintf("GPU%d", g.Index))
	}
	h.DeviceMask = strings.Join(mask, ",")
	return h
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
