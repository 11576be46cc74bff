package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/proc"
)

// heldName is the file that says that a replica was stopped by a person or a program while a manager looked after it, and
// by whom. As long as it is there, managers leave the replica stopped; whoever starts it removes the file.
const heldName = "held.json"

// holdName is the file of a hold, which is kept whatever is told to start.
const holdName = "hold.json"

// HoldPath is the path of the replica's hold.
func (f Files) HoldPath() string { return filepath.Join(f.Dir(), holdName) }

// NodeHoldPath is the path of the hold of all replicas of a state directory.
func NodeHoldPath(dir string) string { return filepath.Join(dir, holdName) }

func (f Files) heldPath() string { return filepath.Join(f.Dir(), heldName) }

// Hold says that the replica is to stay stopped. The first word stands.
func (f Files) Hold() error {
	if f.Held() {
		return nil
	}
	host, _ := os.Hostname()
	data, err := json.Marshal(Note{Process: proc.Identify(os.Getpid()), Host: host, Since: time.Now().UTC().Truncate(time.Second)})
	if err == nil {
		err = f.Create()
	}
	if err == nil {
		err = atomicfile.Write(f.heldPath(), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot keep that it was stopped: %w", err)
	}
	return nil
}

// Unhold says that the replica may run.
func (f Files) Unhold() error {
	err := atomicfile.Remove(f.heldPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot forget that it was stopped: %w", err)
	}
	return nil
}

// Held reports whether somebody has stopped the replica, which is to stay so.
func (f Files) Held() bool { return access.Exists(f.heldPath()) }

// HeldBy says who has stopped it, for people.
func (f Files) HeldBy() string {
	if n, ok := ReadNote(f.heldPath()); ok {
		return fmt.Sprintf("pid %d (%s)", n.Process.PID, n.Since.Local().Format(time.DateTime))
	}
	return "another command"
}

// BeingStopped reports whether a living program is at a stop of the replica.
func (f Files) BeingStopped() bool {
	if !access.Exists(f.StopLock()) {
		return false
	}
	lock, err := TakeLock(f.StopLock(), 250*time.Millisecond) // a program between fork and exec holds a copy for a moment
	if err == nil {
		lock.Release()
	}
	return errors.Is(err, ErrHeld)
}
