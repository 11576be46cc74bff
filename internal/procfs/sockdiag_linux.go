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

	tcpListen = 10
)

// diagListeners asks the kernel for what ParseListeners finds in the tables, in this process's network namespace. It
// fails on kernels that are built without INET_DIAG and where netlink is forbidden.
func diagListeners(addr netip.Addr, port uint16) ([]uint64, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("cannot ask for sockets: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	// The kernel answers at once; what only plays Linux may never do.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return nil, fmt.Errorf("cannot ask for sockets: %w", err)
	}
	var inodes []uint64
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		found, err := diagFamily(fd, family, addr, port)
		if err != nil {
			return nil, fmt.Errorf("cannot ask for sockets: %w", err)
		}
		inodes = append(inodes, found...)
	}
	return inodes, nil
}

func diagFamily(fd int, family byte, addr netip.Addr, port uint16) ([]uint64, error) {
	request := make([]byte, unix.NLMSG_HDRLEN+diagRequestSize)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := request[unix.NLMSG_HDRLEN:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[diagStates:], 1<<tcpListen)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var inodes []uint64
	answer := make([]byte, 32<<10) // what the kernel fills at most at once
	for {
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(answer[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_DONE:
				return inodes, nil
			case m.Header.Type == unix.NLMSG_ERROR:
				return nil, errors.New("the kernel refuses")
			case len(m.Data) < diagMessageSize:
				return nil, errors.New("an answer that is too short")
			}
			local := netip.AddrFrom16([16]byte(m.Data[diagSource:]))
			if family == unix.AF_INET {
				local = netip.AddrFrom4([4]byte(m.Data[diagSource:]))
			}
			at := netip.AddrPortFrom(local, binary.BigEndian.Uint16(m.Data[diagSourcePort:]))
			if inode := binary.NativeEndian.Uint32(m.Data[diagInode:]); serves(at, addr, port) && inode != 0 {
				inodes = append(inodes, uint64(inode))
			}
		}
	}
}
