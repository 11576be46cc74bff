//go:build unix && !linux

package proc

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// Tree is the leader, its process group, and the children of all these.
type Tree struct {
	Mark   string
	Leader ID            // the zero value when it was never known
	Group  *cgroup.Group // none here
	Past   Past          // says nothing without /proc
	Since  uint64        // says nothing without /proc
}

// Now cannot be told without /proc.
func Now() uint64 { return 0 }

// Recent is Members.
func (t *Tree) Recent() ([]procfs.Stat, error) { return t.Members() }

// Members lists the living processes of the tree. Once the leader is reaped its number can be a stranger's, so then
// there are none to be known of.
func (t *Tree) Members() ([]procfs.Stat, error) {
	if t.Leader.PID <= 1 {
		return nil, nil
	}
	// POSIX has no system call for this, but it has ps. Each header needs an -o of its own to be empty.
	out, err := exec.Command("ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "pgid=", "-o", "rss=", "-o", "stat=", "-o", "comm=").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes: %w", err)
	}
	var all []procfs.Stat
	for line := range strings.Lines(string(out)) {
		var s procfs.Stat
		var rss int64
		var state string
		if n, _ := fmt.Sscan(line, &s.PID, &s.PPID, &s.PGID, &rss, &state, &s.Comm); n == 6 && s.PID > 1 && s.PID != os.Getpid() {
			s.State, s.RSSPages = state[0], rss*1024/int64(os.Getpagesize())
			all = append(all, s)
		}
	}
	isLeader := func(s procfs.Stat) bool { return s.PID == t.Leader.PID && s.PPID == os.Getpid() }
	if !slices.ContainsFunc(all, isLeader) {
		return nil, nil
	}
	found := map[int]bool{}
	for grown := true; grown; {
		grown = false
		for _, s := range all {
			if !found[s.PID] && (s.PGID == t.Leader.PID || found[s.PPID]) {
				found[s.PID] = true
				grown = true
			}
		}
	}
	return slices.DeleteFunc(all, func(s procfs.Stat) bool { return s.Dead() || !found[s.PID] }), nil
}

// kill sends SIGKILL to processes that Members has listed. In between the pid of a child outside the group could become
// another's; no call closes this gap here.
func kill(members []procfs.Stat) {
	for _, m := range members {
		_ = unix.Kill(m.PID, unix.SIGKILL)
	}
}

// OwnsListener cannot be told without /proc: the check of the model's path has to do.
func (t *Tree) OwnsListener(string, int) (owns, known bool) { return false, false }

// Server cannot be told without /proc.
func (t *Tree) Server(string, int) *Process { return nil }

// ListensOn cannot be told without /proc.
func (p *Process) ListensOn(string, int) bool { return false }
