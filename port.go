package provisioner

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// portError says that a port is not free.
type portError struct {
	port    Port
	problem string
}

func (e *portError) Error() string {
	if e.port.Use != "" {
		return fmt.Sprintf("port %d, for %s, is not free: %s", e.port.Number, e.port.Use, e.problem)
	}
	return fmt.Sprintf("port %d is not free: %s", e.port.Number, e.problem)
}
func (e *portError) Unwrap() error { return ErrBusy }

// portProblem says why nothing could listen on host and port, or "" when it is free.
func portProblem(host string, port int) string {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		l.Close()
		return ""
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	if owner := listenerOwner(host, port); owner != "" {
		return "it is taken by " + owner
	}
	return err.Error()
}

// loopback is the address at which this machine reaches an engine that listens on host.
func loopback(host string) string {
	addr, err := netip.ParseAddr(host)
	switch {
	case err != nil || !addr.IsUnspecified():
		return host
	case addr.Is4():
		return "127.0.0.1"
	default:
		return "::1"
	}
}
