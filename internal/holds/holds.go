// Package holds owns the files of holds: hold.json in a replica's folder, and that in the state directory, which holds all of
// its replicas.
//
// Whoever has the manager's lock places and lifts them; whoever starts an engine looks for one. What a hold says is package
// hold's. A file that cannot be read holds, too: better an engine that waits for somebody to look than one that runs where
// somebody works at its GPU.
package holds

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Of returns what holds a replica, or nil: its own hold, before that of the node. One whose time is over holds nothing.
func Of(f state.Files, now time.Time) *hold.Hold {
	if h := read(f.HoldPath(), now); h != nil {
		h.Node = false
		return h
	}
	h := read(state.NodeHoldPath(f.State), now)
	if h != nil {
		h.Node = true
	}
	return h
}

// Check returns a *hold.Error where something holds the replica.
func Check(f state.Files, replica string) error {
	if h := Of(f, time.Now()); h != nil {
		return &hold.Error{Replica: replica, Hold: *h}
	}
	return nil
}

func read(path string, now time.Time) *hold.Hold {
	data, err := state.Read(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // where a file is in the way of the folder, others say so
		return nil
	}
	h := &hold.Hold{}
	if err == nil {
		err = json.Unmarshal(data, h)
	}
	switch {
	case err != nil:
		return &hold.Hold{Reason: fmt.Sprintf("%s cannot be read: %v", path, err)}
	case h.Over(now):
		return nil
	}
	return h
}

// Place holds a replica, instead of a hold of before.
func Place(f state.Files, h hold.Hold) error {
	if err := f.Create(); err != nil {
		return err
	}
	return write(f.HoldPath(), h)
}

// PlaceAll holds all replicas of a state directory.
func PlaceAll(dir string, h hold.Hold) error { return write(state.NodeHoldPath(dir), h) }

func write(path string, h hold.Hold) error {
	data, err := json.MarshalIndent(h, "", "  ")
	if err == nil {
		err = atomicfile.Write(path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot keep the hold: %w", err)
	}
	return nil
}

// Lift ends a replica's own hold; there need be none.
func Lift(f state.Files) error { return remove(f.HoldPath()) }

// LiftAll ends the hold of all replicas of a state directory; there need be none.
func LiftAll(dir string) error { return remove(state.NodeHoldPath(dir)) }

func remove(path string) error {
	if err := atomicfile.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot lift the hold: %w", err)
	}
	return nil
}
