package provisioner

import (
	"context"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/state"
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

	Schema     int             `json:"schema"`
	Generation int64           `json:"generation"` // grows with each launch of the replica
	Process    *HandoffProcess `json:"process,omitempty"`
	Devices    []string        `json:"devices,omitempty"` // UUIDs of the GPUs in use; of one without, its PCI address
	Auth       *SecretRef      `json:"auth,omitempty"`    // where the API key is to be found; never the key
	ReadyAt    time.Time       `json:"ready_at"`
	Answer     string          `json:"answer"` // "ok", "not_offered" or "off": what the answer proof found
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
