package docker

import (
	"net/netip"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// holds reports whether one of the members listens on host and port. Only root may look at another user's sockets.
func holds(members []provisioner.Member, host string, port int) (owns, known bool) {
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
