package proc

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/census"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// Tree is all processes of a launch: the leader, its session and group, whatever carries the mark in its
// environment or is in its cgroup, and the children of all these. It works without a leader, too.
type Tree struct {
	Mark   string
	Group  *cgroup.Group // nil where none was delegated
	Leader ID            // the zero value when it is not known; no member is older
	Past   Past          // of a launch whose leader may be gone
	Since  uint64        // no member began earlier, in ticks since boot; see [Now]. 0 when that is not known

	mu   sync.Mutex
	seen []census.Identity // the members so far: one stays a member when its parent dies
}

// machine is the one view of the processes of this machine for all launches of this program, which may have been begun by
// callers that know nothing of each other. There is one /proc, so there is no second one to be told from it; nobody can
// change it, and what a fresh question is told does not depend on what was asked before.
var machine = census.New(MarkEnv)

// Now is when a process that is started from now on begins at the earliest, in ticks since boot.
func Now() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	return uint64(time.Duration(now.Nano()) / tick)
}

// stranded are the processes of a leader that may be gone. Its session and group may be a stranger's by now, but no stranger
// prints into the launch's own log. Without that, the workers of a vLLM that was killed are nobody's: setproctitle has
// overwritten the environment with their mark, and Python has closed the lock in them.
func (l Past) stranded(since uint64, asked time.Time) ([]census.Identity, error) {
	led, err := machine.Led(l.PID, since, asked)
	led = slices.DeleteFunc(led, func(s procfs.Stat) bool { return !procfs.PrintsTo(s.PID, l.Log) })
	return identities(led), err
}

func identities(all []procfs.Stat) []census.Identity {
	ids := make([]census.Identity, len(all))
	for i, s := range all {
		ids[i] = census.Identity{PID: s.PID, StartTicks: s.StartTicks}
	}
	return ids
}

// Members lists the living processes of the tree, by a look that began after the call. Processes of other users are left out.
func (t *Tree) Members() ([]procfs.Stat, error) { return t.members(time.Now()) }

// Recent is Members by a look that may be some milliseconds old, which costs nothing where another launch has just looked.
func (t *Tree) Recent() ([]procfs.Stat, error) { return t.members(machine.Recent()) }

func (t *Tree) members(asked time.Time) ([]procfs.Stat, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	family := census.Family{
		Since: max(t.Since, t.Leader.StartTicks), Mark: t.Mark, Listed: t.Group.Processes(), Known: t.seen,
		Leader: census.Identity{PID: t.Leader.PID, StartTicks: t.Leader.StartTicks},
		Not:    os.Getpid(), // this program never ends itself, even if an engine has started it
	}
	members, led, err := machine.Members(family, asked)
	if err == nil && !led && t.Past.PID > 0 {
		var more []census.Identity
		if more, err = t.Past.stranded(family.Since, asked); err == nil && len(more) > 0 {
			family.Known = slices.Concat(t.seen, more)
			members, _, err = machine.Members(family, asked)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes: %w", err)
	}
	t.seen = identities(members)
	return members, nil
}

// kill sends SIGKILL to processes that Members has listed.
func kill(members []procfs.Stat) {
	for _, m := range members {
		p, err := Hold(m.PID)
		if err != nil {
			continue // gone
		}
		if p.StartTicks == m.StartTicks {
			_ = p.Signal(unix.SIGKILL)
		}
		p.Close()
	}
}
