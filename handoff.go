package provisioner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

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

// pollInterval is how often a watcher looks for itself, for file systems that do not notify (NFS) and for a folder
// that is not there yet.
const pollInterval = 500 * time.Millisecond

// WatchHandoffs reports every handoff file in dir, which is <state>/engines: first those that are there, then each
// change. The folder need not exist yet. The channel is closed when ctx is done; until then the reader must
// read on. What changes faster than it is read may be told once, as it is in the end.
func WatchHandoffs(ctx context.Context, dir string) (<-chan HandoffEvent, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot watch %q: %w", dir, err)
	}
	w := &handoffWatch{dir: abs, events: make(chan HandoffEvent), seen: map[string][]byte{}}
	// Without notification (too many watches on this machine, say) polling alone does it.
	w.notify, _ = fsnotify.NewWatcher()
	go w.run(ctx)
	return w.events, nil
}

type handoffWatch struct {
	dir      string
	events   chan HandoffEvent
	notify   *fsnotify.Watcher // nil: polling alone
	watching bool
	seen     map[string][]byte // content by path
}

func (w *handoffWatch) run(ctx context.Context) {
	defer close(w.events)
	var changed <-chan fsnotify.Event
	var missed <-chan error
	if w.notify != nil {
		defer func() { _ = w.notify.Close() }()
		changed, missed = w.notify.Events, w.notify.Errors
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for w.scan(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case _, open := <-missed: // an overflow: the scan finds what it was
			if !open {
				missed = nil
			}
		case <-poll.C:
		}
	}
}

// scan tells of what is different from the last time; it returns false when ctx is done.
func (w *handoffWatch) scan(ctx context.Context) bool {
	if w.notify != nil && !w.watching {
		w.watching = w.notify.Add(w.dir) == nil // before the folder is read, so that nothing falls in between
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.watching = false // there is no folder, or it was removed: a new one needs a new watch
	}
	var paths []string
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".json") {
			paths = append(paths, filepath.Join(w.dir, entry.Name()))
		}
	}
	for path, data := range w.seen {
		if !slices.Contains(paths, path) {
			delete(w.seen, path)
			h, _ := decodeHandoff(path, data)
			if !w.tell(ctx, HandoffEvent{Path: path, Handoff: h, Removed: true}) {
				return false
			}
		}
	}
	for _, path := range paths {
		data, err := state.Read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since; the next scan tells
		}
		before, known := w.seen[path]
		if known && bytes.Equal(before, data) {
			continue
		}
		w.seen[path] = data
		var h Handoff
		if err == nil {
			h, err = decodeHandoff(path, data)
		}
		if !w.tell(ctx, HandoffEvent{Path: path, Handoff: h, Err: err}) {
			return false
		}
	}
	return true
}

func (w *handoffWatch) tell(ctx context.Context, e HandoffEvent) bool {
	select {
	case w.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}
