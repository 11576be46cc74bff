package port

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// boundSilently reports whether a process has bound the port and does not listen on it yet. vLLM does so for the 47 s of
// its load, with SO_REUSEADDR: Linux then lets others listen, and the engine that comes second fails at the end of its load.
func boundSilently(host string, port int) bool {
	// Old connections keep others from binding as well, but are in the table of sockets. One can go between the two looks.
	for range 2 {
		if bindable(host, port) {
			return false
		}
		if used, err := procfs.UsesPort(uint16(port)); err != nil || used {
			return false
		}
	}
	return true
}

// bindable reports whether the port can be bound without SO_REUSEADDR, or whether that cannot be told.
func bindable(host string, port int) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return true
	}
	family, sockaddr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: port, Addr: addr.As16()})
	if addr.Is4() {
		family, sockaddr = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: addr.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer func() { _ = unix.Close(fd) }()
	return !errors.Is(unix.Bind(fd, sockaddr), unix.EADDRINUSE)
}
