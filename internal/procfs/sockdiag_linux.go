package procfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// The structures of sock_diag(7), by their sizes and offsets in bytes.
const (
	diagRequestSize = 56 // struct inet_diag_req_v2: family, protocol, extensions, padding, states (4), socket identity (48)
	diagStates      = 4
	diagMessageSize = 72 // struct inet_diag_msg
	diagSourcePort  = 4  // big-endian, as on the wire
	diagSource      = 8
	diagInode       = 68

	tcpEstablished = 1
	tcpCloseWait   = 8
	tcpListen      = 10
	// tcpInTables are the states of what the tables in /proc show: TCP_ESTABLISHED to TCP_NEW_SYN_RECV, without the sockets that
	// are only bound, which newer kernels have as another state.
	tcpInTables = 1<<13 - 1<<tcpEstablished
)

// diagListeners asks the kernel for all sockets of this process's network namespace that listen. It fails on kernels that are
// built without INET_DIAG and where netlink is forbidden.
func diagListeners() (all []socket, err error) {
	err = diagSockets(1<<tcpListen, func(s socket) { all = append(all, s) })
	return all, err
}

// diagConnected counts the connections of each local port of this process's network namespace whose other end can still get
// something.
func diagConnected() (map[uint16]int, error) {
	all := map[uint16]int{}
	err := diagSockets(1<<tcpEstablished|1<<tcpCloseWait, func(s socket) { all[s.at.Port()]++ })
	return all, err
}

// diagUsed are the local ports of all sockets of this process's network namespace but those that are only bound.
func diagUsed() (map[uint16]bool, error) {
	all := map[uint16]bool{}
	err := diagSockets(tcpInTables, func(s socket) { all[s.at.Port()] = true })
	return all, err
}

func diagSockets(states uint32, do func(socket)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("cannot ask for sockets: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	// The kernel answers at once; what only plays Linux may never do.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return fmt.Errorf("cannot ask for sockets: %w", err)
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if err := diagFamily(fd, family, states, do); err != nil {
			return fmt.Errorf("cannot ask for sockets: %w", err)
		}
	}
	return nil
}

func diagFamily(fd int, family byte, states uint32, do func(socket)) error {
	request := make([]byte, unix.NLMSG_HDRLEN+diagRequestSize)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := request[unix.NLMSG_HDRLEN:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[diagStates:], states)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 32<<10) // what the kernel fills at most at once
	for {
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(answer[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_DONE:
				return nil
			case m.Header.Type == unix.NLMSG_ERROR:
				return errors.New("the kernel refuses")
			case len(m.Data) < diagMessageSize:
				return errors.New("an answer that is too short")
			}
			local := netip.AddrFrom16([16]byte(m.Data[diagSource:]))
			if family == unix.AF_INET {
				local = netip.AddrFrom4([4]byte(m.Data[diagSource:]))
			}
			at := netip.AddrPortFrom(local, binary.BigEndian.Uint16(m.Data[diagSourcePort:]))
			do(socket{at, uint64(binary.NativeEndian.Uint32(m.Data[diagInode:]))})
		}
	}
}
