package local

import (
	"fmt"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
)

// oomWatch is what the kernel counts of its own kills for want of memory, where it counts them for this program.
type oomWatch struct {
	shared  cgroup.OOM // of all engines below the delegated cgroup
	own     cgroup.OOM // of this program's own group with a limit, as a container's, where what it starts is, too
	machine cgroup.OOM // of all processes
}

// look reads the counts of a launch that has ended, before its cgroup goes.
func (o *oomWatch) look(group *cgroup.Group, exit *Exit) {
	kills, where, known := group.OOMKills()
	if !known {
		exit.OOMShared = true
		kills, where, known = o.shared.Kills()
	}
	if !known {
		kills, where, known = o.own.Kills()
	}
	if !known {
		kills, where, known = o.machine.Kills()
	}
	exit.NotOOM = known && kills == 0
	if known && kills > 0 {
		exit.OOM = fmt.Sprintf("oom_kill rose by %d in %s", kills, where)
	}
}
