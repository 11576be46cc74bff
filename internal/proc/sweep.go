package proc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// ErrUnkillable says that a process has outlived SIGKILL.
var ErrUnkillable = errors.New("a process survived SIGKILL")

// KillPatience is how long a process may outlive SIGKILL before it is reported as unkillable. A process that frees
// hundreds of gigabytes takes seconds; one that hangs in a driver stays for ever.
const KillPatience = 10 * time.Second

// Sweep calls kill until it finds nobody any more, and returns how many there were. Whoever is left after the patience is
// named by survivors, and told as ErrUnkillable.
func Sweep(patience time.Duration, kill func() (int, error), survivors func() (string, error)) (int, error) {
	swept := 0
	deadline := time.Now().Add(patience)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		n, err := kill()
		if err != nil {
			return swept, err
		}
		swept = max(swept, n)
		switch {
		case n == 0:
			return swept, nil
		case time.Now().After(deadline):
			names, err := survivors() // on a busy machine, the last kill may be long ago
			if names != "" && err == nil {
				err = fmt.Errorf("%w: %s", ErrUnkillable, names)
			}
			return swept, err
		}
		time.Sleep(wait)
	}
}

// Sweep kills the members of the tree until there is none.
func (t *Tree) Sweep(patience time.Duration) (int, error) {
	return Sweep(patience, func() (int, error) {
		members, err := t.Members()
		return t.Kill(members), err
	}, t.Survivors)
}

// Kill sends SIGKILL to members, and to whoever is in the tree's cgroup. It returns how many processes there were.
func (t *Tree) Kill(members []procfs.Stat) int {
	_ = t.Group.Kill() // at once, and whoever is being forked; what it cannot do, the next line does
	kill(members)
	if len(members) == 0 && t.Group.Populated() {
		return 1 // the kernel's word, where there is a group
	}
	return len(members)
}

// Survivors names the living processes of the tree; "" when there is none.
func (t *Tree) Survivors() (string, error) {
	members, err := t.Members()
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = Name(m.Comm, m.PID, m.State)
	}
	slices.Sort(names)
	return strings.Join(names, ", "), err
}

// Name is how a process is named to people. state is that of /proc/<pid>/stat.
func Name(comm string, pid int, state byte) string {
	return fmt.Sprintf("%q (pid %d, state %c)", comm, pid, state)
}
