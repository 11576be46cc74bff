package procfs

import (
	"net/netip"
	"sync"
	"time"
)

// shared is what many ask for at the same time: one look answers all who asked before it began. Who asks while a look goes on
// waits for the next one, so an answer is as fresh as one of one's own.
type shared[T any] struct {
	mu    sync.Mutex
	began time.Time
	value T
	err   error
}

func (s *shared[T]) get(look func() (T, error)) (T, error) {
	asked := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.began.After(asked) {
		s.began = time.Now()
		s.value, s.err = look()
	}
	return s.value, s.err
}

// What the kernel tells of the sockets of this network namespace is the same for all who ask, like /proc itself.
var (
	listening shared[[]socket]
	connected shared[map[uint16]int]
	used      shared[map[uint16]bool]
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
	ports, err := connected.get(diagConnected)
	return ports[port], err
}
