package procfs

import (
	"net/netip"

	"github.com/llama-orch/engine-provisioner/internal/onelook"
)

// What the kernel tells of the sockets of this network namespace is the same for all who ask, like /proc itself.
var (
	listening onelook.Look[[]socket]
	connected onelook.Look[map[uint16]int]
	used      onelook.Look[map[uint16]bool]
)

// socket is one of TCP.
type socket struct {
	at    netip.AddrPort
	inode uint64
}

// Connected is how many TCP connections there are with the local port, in the network namespace of the process, whose other
// end may still send or is still to get something. It fails where the kernel does not tell, as of another namespace.
func Connected(pid int, port uint16) (int, error) {
	if !sameNetwork(pid) {
		return 0, errOtherNetwork
	}
	ports, err := connected.Get(diagConnected)
	return ports[port], err
}
