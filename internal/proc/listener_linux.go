package proc

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// OwnsListener reports whether a process of the tree listens on host and port. known is false when that cannot be
// seen, as for an engine that has changed its user.
func (t *Tree) OwnsListener(host string, port int) (owns, known bool) {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false, false
	}
	inodes, err := procfs.Listeners(t.Leader.PID, addr, uint16(port))
	if err != nil || len(inodes) == 0 {
		return false, false
	}
	// Nearly always it is the leader, and looking at it alone takes microseconds.
	if procfs.HoldsSocket(t.Leader.PID, inodes) {
		return true, true
	}
	members, err := t.Members()
	if err != nil {
		return false, false
	}
	owns = slices.ContainsFunc(members, func(s procfs.Stat) bool { return procfs.HoldsSocket(s.PID, inodes) })
	if !owns {
		_, known = procfs.Holder(inodes) // else it belongs to a process of another user
	}
	return owns, owns || known
}

// Server takes hold of the process that listens on host and port: of those that have the socket the oldest, from which the
// others have it. It is nil when none of the tree is seen to listen.
func (t *Tree) Server(host string, port int) *Process {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	members, _ := t.Members()
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
	p, err := Hold(first.PID)
	if err != nil {
		return nil
	}
	if p.StartTicks != first.StartTicks {
		p.Close()
		return nil
	}
	p.Name = first.Comm
	return p
}

// ListensOn reports whether the process has a socket that listens on host and port.
func (p *Process) ListensOn(host string, port int) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	inodes, err := procfs.Listeners(p.PID, addr, uint16(port))
	return err == nil && procfs.HoldsSocket(p.PID, inodes)
}
