package provisioner

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// ownsListener reports whether a process of the tree listens on host and port. known is false when that cannot be
// seen, as for an engine that has changed its user.
func (t *tree) ownsListener(host string, port int) (owns, known bool) {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false, false
	}
	inodes, err := procfs.Listeners(t.leader.PID, addr, uint16(port))
	if err != nil || len(inodes) == 0 {
		return false, false
	}
	// Nearly always it is the leader, and looking at it alone takes microseconds.
	if procfs.HoldsSocket(t.leader.PID, inodes) {
		return true, true
	}
	members, err := t.members()
	if err != nil {
		return false, false
	}
	owns = slices.ContainsFunc(members, func(s procfs.Stat) bool { return procfs.HoldsSocket(s.PID, inodes) })
	return owns, owns || listenerOwner(host, port) != "a process of another user"
}

// server takes hold of the process that listens on host and port: of those that have the socket the oldest, from which the
// others have it. It is nil when none of the tree is seen to listen.
func (t *tree) server(host string, port int) *process {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	members, _ := t.members()
	// The network is asked for through a living process: the leader may be dead, and have none any more.
	var inodes []uint64
	for _, m := range members {
		if inodes, _ = procfs.Listeners(m.PID, addr, uint16(port)); len(inodes) > 0 {
			break
		}
	}
	members = slices.DeleteFunc(members, func(s procfs.Stat) bool { return !procfs.HoldsSocket(s.PID, inodes) })
	if len(members) == 0 {
		return nil
	}
	first := slices.MinFunc(members, func(a, b procfs.Stat) int {
		return cmp.Or(cmp.Compare(a.StartTicks, b.StartTicks), cmp.Compare(a.PID, b.PID))
	})
	p, err := hold(first.PID)
	if err != nil {
		return nil
	}
	if p.StartTicks != first.StartTicks {
		p.close()
		return nil
	}
	p.name = first.Comm
	return p
}

// listensOn reports whether the process has a socket that listens on host and port.
func (p *process) listensOn(host string, port int) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	inodes, err := procfs.Listeners(p.PID, addr, uint16(port))
	return err == nil && procfs.HoldsSocket(p.PID, inodes)
}
