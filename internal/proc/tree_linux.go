package proc

import (
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

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

	mu   sync.Mutex
	seen map[int]uint64 // start ticks by pid of the members so far: a member stays one when its parent dies
}

// hasLeft tells whether s is of a leader that may be gone. Its session and group may be a stranger's by now, but no stranger
// prints into the launch's own log. Without that, the workers of a vLLM that was killed are nobody's: setproctitle has
// overwritten the environment with their mark, and Python has closed the lock in them.
func (l Past) hasLeft(s procfs.Stat) bool {
	return l.PID > 0 && (s.SID == l.PID || s.PGID == l.PID) && procfs.PrintsTo(s.PID, l.Log)
}

// Members lists the living processes of the tree. Processes of other users are left out.
func (t *Tree) Members() ([]procfs.Stat, error) {
	all, err := procfs.Processes()
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes: %w", err)
	}
	grouped := t.Group.Processes()
	t.mu.Lock()
	defer t.mu.Unlock()
	// A session or group of the leader's number is the leader's only as long as the leader is there, be it dead and
	// not yet reaped: afterwards the number can be a stranger's.
	leaderThere := slices.ContainsFunc(all, func(s procfs.Stat) bool {
		return s.PID == t.Leader.PID && s.StartTicks == t.Leader.StartTicks
	})
	belongs := func(s procfs.Stat) bool {
		ticks, known := t.seen[s.PID]
		return known && ticks == s.StartTicks ||
			leaderThere && (s.SID == t.Leader.PID || s.PGID == t.Leader.PID) ||
			t.Past.hasLeft(s) ||
			slices.Contains(grouped, s.PID) ||
			procfs.HasEnv(s.PID, MarkEnv+"="+t.Mark)
	}
	// This program never ends itself, even if an engine has started it. Nearly all processes of a machine are older than
	// the launch: their environments need not be read.
	all = slices.DeleteFunc(all, func(s procfs.Stat) bool {
		return s.PID <= 1 || s.PID == os.Getpid() || s.StartTicks < t.Leader.StartTicks
	})
	found := map[int]procfs.Stat{}
	for _, s := range all {
		if belongs(s) {
			found[s.PID] = s
		}
	}
	// Children of members are members. Pids need not grow from parent to child, so this goes on until nothing is new.
	for grown := true; grown; {
		grown = false
		for _, s := range all {
			_, known := found[s.PID]
			if _, child := found[s.PPID]; child && !known {
				found[s.PID] = s
				grown = true
			}
		}
	}
	var members []procfs.Stat
	t.seen = make(map[int]uint64, len(found))
	for pid, s := range found {
		if !s.Dead() {
			members = append(members, s)
			t.seen[pid] = s.StartTicks
		}
	}
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
