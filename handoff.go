package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/drain"
	"github.com/llama-orch/engine-provisioner/internal/share"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
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
	Answer     string              `json:"answer"`          // "ok", "not_offered" or "off": what the answer proof found
	Lease      *report.Lease       `json:"lease,omitempty"` // of a copy for other nodes; see settings.Handoff
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

// ReadHandoff reads a handoff file. It returns fs.ErrNotExist when the replica is not ready; of a copy for other nodes, also when
// nobody has renewed its lease for too long, by both machines' clocks. Keys that this version
// does not know are ignored, so that a reader goes on working when a newer provisioner adds some.
func ReadHandoff(path string) (Handoff, error) {
	data, err := state.Read(path)
	if err != nil {
		return Handoff{}, err
	}
	h, err := decodeHandoff(path, data)
	if err == nil && h.Lease != nil && !h.Lease.Holds(time.Now()) {
		return Handoff{}, fmt.Errorf("the lease of %q is over, which the node %q renewed last at %s: %w",
			path, h.Lease.Node, h.Lease.RenewedAt.Format(time.RFC3339), fs.ErrNotExist)
	}
	return h, err
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

// WatchHandoffs reports every handoff file in dir, which is <state>/engines or a folder that nodes share: first those that are
// there, then each change. It looks by itself, too, where a file system tells of no change. A copy for other nodes whose lease is
// over is reported as removed, and one that is renewed is no change. The folder need not exist yet. The channel is closed when ctx is done; until then the reader must
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
	p.unshare("")
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

// unsharePatience is how long a shared folder that hangs may hold up a stop.
const unsharePatience = 2 * time.Second

// copied is where the copy of the handoff for other nodes is; false where there is none.
func (r *run) copied() (c share.Copy, shared bool, err error) {
	to := r.rec.Handoff
	if to.Dir == "" {
		return c, false, nil
	}
	c, err = share.Of(share.Copy{
		Dir: ProvisionConfig{Dir: r.rec.Dir}.resolve(to.Dir), TTL: time.Duration(to.TTL), Stem: r.files.Stem, State: r.files.State, Readers: readersOf(to),
	})
	return c, err == nil, err
}

// share keeps the copy of the handoff for other nodes, until the launch ends or is let go: then the lease says how long it holds.
func (p *EngineProvisioner) share() {
	c, shared, err := p.run.copied()
	if err != nil {
		p.note("its handoff is not shared: " + err.Error())
	}
	if !shared {
		return
	}
	c.Keep(p.done, func() (func(report.Lease) any, bool) {
		h, ready := p.Handoff()
		if !ready || p.isWithdrawn() || !access.Exists(p.run.files.Handoff()) { // another program may have removed it
			return nil, false
		}
		return func(lease report.Lease) any { h.Lease = &lease; return h }, true
	}, p.note)
	if !errors.Is(p.Err(), ErrReleased) {
		_ = c.Remove() // what was written since it was unpublished
	}
}

// unshare removes the copy for other nodes, unless it is in the folder where the next one is.
func (p *EngineProvisioner) unshare(next string) {
	c, shared, err := p.run.copied()
	if shared && p.run.rec.Handoff.Dir != next {
		err = c.RemoveWithin(unsharePatience)
	}
	if err != nil {
		p.note("the copy of its handoff for other nodes may still be there: " + err.Error())
	}
}
