// Package hold owns what it means that a replica is held: somebody has stopped it and keeps it stopped, for a reason that he
// gave, until he or another lifts that, or the time is over.
//
// Programs make a [Hold] here for package fleet, and read it in a Status or an Event. Package fleet places and lifts holds, the
// root keeps a lone Start from passing one. Nothing here touches a file or an engine.
package hold

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/llama-orch/engine-provisioner/internal/caller"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Hold is who holds a replica, when and why. It is a value; its zero value says nothing.
type Hold struct {
	Reason  string    `json:"reason"`
	User    string    `json:"user,omitempty"`    // the name, or the number where it has none
	PID     int       `json:"pid,omitempty"`     // of the program that placed it
	Command string    `json:"command,omitempty"` // of that program, such as "engine-provisioner hold"; other arguments are left out
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"` // zero: until it is lifted
	// Node says that it is for all replicas of the state directory, those included that come later.
	Node bool `json:"node,omitempty"`
}

// maxReason is what a line of a status can hold, in bytes.
const maxReason = 200

// New makes a hold by this program, from now on. It ends after the time last; 0 means that it is to be lifted. The reason is for
// people: one line of at most 200 bytes, which must not be empty.
func New(reason string, last time.Duration) (Hold, error) {
	reason = strings.TrimSpace(reason)
	switch {
	case reason == "":
		return Hold{}, errors.New("a hold needs a reason, for whoever finds the replica stopped")
	case len(reason) > maxReason:
		return Hold{}, fmt.Errorf("the reason is %d bytes long; write at most %d", len(reason), maxReason)
	case !utf8.ValidString(reason), tail.Clean(reason) != reason, strings.ContainsAny(reason, "\n\r"):
		return Hold{}, fmt.Errorf("the reason %q is not one line of plain text", reason)
	case last < 0:
		return Hold{}, fmt.Errorf("a hold cannot last %s", last)
	}
	by, now := caller.This(), time.Now().UTC().Truncate(time.Second)
	h := Hold{Reason: reason, User: by.User, PID: by.PID, Command: by.Command, Since: now}
	if last > 0 {
		h.Until = time.Now().UTC().Add(last).Round(time.Millisecond)
	}
	return h, nil
}

// Over reports whether the time of the hold is over.
func (h Hold) Over(now time.Time) bool { return !h.Until.IsZero() && !now.Before(h.Until) }

// String returns it for people, such as "held by alice until 2026-12-01 18:00:00: new driver".
func (h Hold) String() string {
	var b strings.Builder
	b.WriteString("held")
	if h.Node {
		b.WriteString(" with the whole node")
	}
	if h.User != "" {
		b.WriteString(" by " + h.User)
	}
	if !h.Until.IsZero() {
		b.WriteString(" until " + h.Until.Local().Format(time.DateTime))
	}
	return b.String() + ": " + h.Reason
}

// ErrHeld is wrapped by an [Error].
var ErrHeld = errors.New("held")

// Error says that a replica does not run because it is held.
type Error struct {
	Replica string // such as "chat/r0"
	Hold    Hold
}

// Error says who holds the replica and what lifts that.
func (e *Error) Error() string {
	lift := e.Replica
	if e.Hold.Node {
		lift = "--node"
	}
	return fmt.Sprintf("%s is %s; lift that first (engine-provisioner unhold %s)", e.Replica, e.Hold, lift)
}

// Unwrap returns [ErrHeld].
func (e *Error) Unwrap() error { return ErrHeld }
