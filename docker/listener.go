package docker

import (
	"net/netip"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/launch"
)

// holds reports whether one of the members listens on host and port. Only root may look at another user's sockets.
func holds(members []launch.Member, host string, port int) (owns, known bool) {
	addr, err := netip.ParseAddr(host)
	if err != nil || len(members) == 0 {
		return false, false
	}
	inodes, err := procfs.Listeners(members[0].PID, addr, uint16(port))
	if err != nil || len(inodes) == 0 {
		return false, false
	}
	for _, m := range members {
		if procfs.HoldsSocket(m.PID, inodes) {
			return true, true
		}
	}
	return false, procfs.SeesSockets(members[0].PID)
}
