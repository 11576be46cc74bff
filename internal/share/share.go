// Package share keeps the copy of a handoff in a folder that nodes share, and its lease.
//
// A launch that is looked after calls it. It writes one file, which bears the node's name, and waits for no disk on anybody's
// behalf but its own goroutine's: such a folder is most likely on a network, and may hang for as long as that does.
package share

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/readers"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// DefaultTTL is how long a lease holds that says nothing itself: two renewals may fail before a reader takes the node for dead.
const DefaultTTL = 30 * time.Second

// lookPeriod is the time between two looks at whether the replica is ready. A renewal takes place every third of the lease.
const lookPeriod = time.Second

// Copy is where the copy of a handoff is.
type Copy struct {
	Dir     string
	TTL     time.Duration // 0 means DefaultTTL
	Stem    string        // the name of the handoff without its ending
	State   string        // the state directory
	Readers state.Readers

	node string
}

// Of is c on this machine.
func Of(c Copy) (Copy, error) {
	name, err := os.Hostname()
	if err == nil && (name == "" || strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".")) {
		err = fmt.Errorf("%q cannot be a part of a file's name", name)
	}
	if err != nil {
		return c, fmt.Errorf("cannot tell this machine's name: %w", err)
	}
	c.node = name
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	return c, nil
}

// Path is the file of the copy.
func (c Copy) Path() string { return filepath.Join(c.Dir, c.node+"."+c.Stem+".json") }

// foreignError says that the file is another's: of the state directory with the id owner, or, without one, of nobody known.
type foreignError struct{ path, owner string }

func (e *foreignError) Error() string {
	if e.owner == "" {
		return fmt.Sprintf("%q has no lease, so it is none of ours; remove it, or name another folder", e.path)
	}
	return fmt.Sprintf("%q is of another state directory, which renews it (id %.8q); give the replica, or the machine, another name", e.path, e.owner)
}

// there is the lease of the copy that is there; it is zero where what is there has none.
func (c Copy) there() (lease report.Lease, err error) {
	data, err := state.Read(c.Path())
	if err != nil {
		return lease, err
	}
	lease, _ = state.LeaseOf(data)
	return lease, nil
}

// write writes the copy of a handoff, unless what is there is another's. A lease of another's is over once it was not renewed for its
// whole term as this machine has seen it, since the clocks may differ.
func (k *keeper) write(handoff func(report.Lease) any) error {
	now := time.Now()
	was, err := k.there()
	absent := errors.Is(err, fs.ErrNotExist)
	switch {
	case absent:
	case err != nil:
		return err
	case was.Owner == "":
		return &foreignError{k.Path(), ""}
	case was.Owner != k.owner:
		if k.other.lease != was {
			k.other.lease, k.other.since = was, now
		}
		if was.Holds(now) || now.Sub(k.other.since) < was.Term() {
			return &foreignError{k.Path(), was.Owner}
		}
	}
	data, err := json.MarshalIndent(handoff(report.Lease{Node: k.node, Owner: k.owner, RenewedAt: now.UTC(), TTL: int(k.TTL / time.Second)}), "", "  ")
	if err != nil {
		return err
	}
	who, err := readers.Of(k.Readers.Mode, k.Readers.Group)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if !absent {
		return atomicfile.ReplaceFor(k.Path(), data, who.Mode, who.GID)
	}
	err = atomicfile.Add(k.Path(), data, who.Mode, who.GID)
	if errors.Is(err, fs.ErrExist) { // another was faster
		was, err = k.there()
		return errors.Join(&foreignError{k.Path(), was.Owner}, err)
	}
	return err
}

// Remove removes the copy where it is this state directory's.
func (c Copy) Remove() error {
	owner, err := state.ID(c.State)
	if err != nil || owner == "" {
		return err
	}
	was, err := c.there()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case was.Owner != owner:
		return nil
	}
	return atomicfile.Remove(c.Path())
}

// RemoveWithin is Remove that a folder which hangs does not hold up for longer than patience.
func (c Copy) RemoveWithin(patience time.Duration) error {
	removed := make(chan error, 1)
	go func() { removed <- c.Remove() }()
	select {
	case err := <-removed:
		return err
	case <-time.After(patience):
		return fmt.Errorf("%q does not answer; the copy of the handoff there ends within %s", c.Dir, c.TTL)
	}
}

// sweep removes what this state directory has left there of replicas that it does not renew any more.
func (c Copy) sweep(owner string) {
	all, _ := filepath.Glob(filepath.Join(c.Dir, "*.json")) // a pattern in the folder's name finds nothing, which is as well
	for _, path := range all {
		if !strings.HasPrefix(filepath.Base(path), c.node+".") {
			continue
		}
		data, err := state.Read(path)
		if err != nil {
			continue
		}
		if lease, ok := state.LeaseOf(data); ok && lease.Owner == owner && !lease.Holds(time.Now()) {
			_ = atomicfile.Remove(path) // else the next one does
		}
	}
	_ = atomicfile.Clear(c.Path())
}

// Keep keeps the copy until over is closed: it is there and renewed as long as handoff gives one, and gone else. tell is told once
// when that fails, and when it works again. The copy stays when over is closed, for who goes on with the launch.
func (c Copy) Keep(over <-chan struct{}, handoff func() (of func(report.Lease) any, ready bool), tell func(string)) {
	k := keeper{Copy: c}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-over:
			return
		case <-timer.C:
			timer.Reset(lookPeriod)
		}
		of, ready := handoff()
		err := k.look(of, ready)
		switch {
		case err != nil && !k.failing:
			tell(fmt.Sprintf("cannot share its handoff in %q, which is tried again: %v", c.Dir, err))
		case err == nil && k.failing:
			tell(fmt.Sprintf("its handoff is shared in %q again", c.Dir))
		}
		k.failing = err != nil
	}
}

type keeper struct {
	Copy
	owner   string
	shown   []byte    // the handoff that was written last, but for its lease; nil where the copy is gone
	renewed time.Time // by the monotonic clock
	unknown bool      // whether the copy is there is not known
	failing bool
	other   struct { // of another's, as it was seen last
		lease report.Lease
		since time.Time // when it was first seen so
	}
}

func (k *keeper) look(of func(report.Lease) any, ready bool) error {
	if k.owner == "" {
		owner, err := state.MakeID(k.State)
		if err != nil {
			return err
		}
		if _, err := os.Stat(k.Dir); err != nil { // it is not made: a disk may be missing
			return err
		}
		k.owner, k.unknown = owner, true
		k.sweep(owner)
	}
	if !ready {
		if k.shown == nil && !k.unknown {
			return nil
		}
		err := k.Remove()
		if err == nil {
			k.shown, k.unknown = nil, false
		}
		return err
	}
	text, err := json.Marshal(of(report.Lease{}))
	if err != nil {
		return err
	}
	if bytes.Equal(text, k.shown) && time.Since(k.renewed) < k.TTL/3 && access.Exists(k.Path()) {
		return nil
	}
	k.unknown = true
	if err := k.write(of); err != nil {
		return err
	}
	k.shown, k.renewed = text, time.Now()
	return nil
}
