// Package board is where a manager posts for other programs what neither records nor events tell: which replicas it looks after,
// also those that have never got so far that they have a record, and how far their preparations are.
//
// A fleet writes it, and whoever tells the status of a state directory reads it. It is of the moment: nothing depends on it, and
// it is not synced to disk.
package board

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

const (
	// fileName is the name of the file in a state directory.
	fileName = "board.json"
	// period is the least time between two writes about progress, which is told several times a second.
	period = time.Second
)

// Posted is what a manager has posted.
type Posted struct {
	Manager  proc.ID `json:"manager"`
	Replicas []Entry `json:"replicas"`
}

// Entry is about one replica.
type Entry struct {
	provisioner.ReplicaID
	Engine   string           `json:"engine"`
	Model    string           `json:"model,omitempty"`
	Progress *report.Progress `json:"progress,omitempty"`
}

// Of is about a replica with this configuration.
func Of(cfg provisioner.ProvisionConfig) Entry {
	return Entry{ReplicaID: cfg.ID(), Engine: cfg.Engine, Model: cfg.Model.ID}
}

// Board is that of a manager. Its methods are safe for concurrent use.
type Board struct {
	dir string

	mu       sync.Mutex
	entries  []Entry
	progress map[provisioner.ReplicaID]*report.Progress
	changed  bool      // since it was written
	written  time.Time // when that was
}

// New is the board of a state directory. It writes nothing yet.
func New(dir string) *Board {
	return &Board{dir: dir, progress: map[provisioner.ReplicaID]*report.Progress{}}
}

// See takes note of an event. It writes nothing, and so returns at once.
func (b *Board) See(e provisioner.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch _, known := b.progress[e.ID()]; {
	case e.Kind == provisioner.EventProgress:
		b.progress[e.ID()], b.changed = e.Progress, true
	case known && e.Kind == provisioner.EventState:
		delete(b.progress, e.ID())
		b.changed, b.written = true, time.Time{}
	}
}

// Progress is how far the preparation of a replica is; nil when there is none.
func (b *Board) Progress(id provisioner.ReplicaID) *report.Progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.progress[id]
}

// Post writes which replicas the manager looks after.
func (b *Board) Post(entries []Entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = entries
	return b.write()
}

// Keep writes what has changed, unless it was written just now.
func (b *Board) Keep() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.changed || time.Since(b.written) < period {
		return nil
	}
	return b.write()
}

// write is called with mu held.
func (b *Board) write() error {
	now := Posted{Manager: proc.Identify(os.Getpid()), Replicas: make([]Entry, len(b.entries))}
	for i, e := range b.entries {
		e.Progress = b.progress[e.ReplicaID]
		now.Replicas[i] = e
	}
	b.changed, b.written = false, time.Now()
	data, err := json.Marshal(now)
	if err == nil {
		err = replace(filepath.Join(b.dir, fileName), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot tell other programs of the replicas: %w", err)
	}
	return nil
}

// replace writes a file, and replaces the one that is there as a whole.
func replace(path string, data []byte) error {
	temp := path + ".new"
	_ = os.Remove(temp) // of a manager that was killed
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	return err
}

// Read reads what the present manager of a state directory has posted; false where there is none, or it posts nothing.
func Read(dir string) (p Posted, ok bool) {
	if !state.Managed(dir) {
		return p, false
	}
	data, err := state.Read(filepath.Join(dir, fileName))
	if err != nil || json.Unmarshal(data, &p) != nil {
		return Posted{}, false
	}
	holder, known := state.ReadNote(state.ManagerLock(dir))
	return p, known && holder.Process.PID == p.Manager.PID && holder.Process.StartTicks == p.Manager.StartTicks
}
