// Package port knows whether a server could listen on an address of this machine and, if not, who or what is in the way and
// what to do about it, in words for people.
//
// Whoever starts servers calls it. It looks, and binds for a moment; it ends nobody and keeps nothing, and what an engine
// is, it is told by its caller.
package port

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// Reason is why nobody can listen on an address.
type Reason int

// The reasons.
const (
	Free      Reason = iota // nothing is in the way
	Taken                   // somebody has the port
	NoAddress               // the address is none of this machine
	Forbidden               // this user may not use the port
)

// Problem is why nobody can listen on an address. The zero value is that of one that is free.
type Problem struct {
	Reason Reason
	Text   string // such as "it is taken by …"
	Advice string
	Err    error // the kernel's word; nil of a port that is taken
}

// Known tells what the caller knows of a process that listens: what it is, and what to do about it. Both are "" for a
// process that it does not know. A nil Known knows none.
type Known func(pid int) (what, advice string)

// Try finds out whether a server could listen. The error is that of a machine on which nobody can tell.
func Try(host string, port int, known Known) (Problem, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		l.Close()
		if boundSilently(host, port) {
			return Problem{
				Reason: Taken, Text: "it is bound by a process that does not listen yet, such as a vLLM that loads",
				Advice: adviceTaken,
			}, nil
		}
		return Problem{}, nil
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return Problem{}, err
	}
	switch errno {
	case syscall.EADDRINUSE:
		return taken(host, port, known), nil
	case syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.EINVAL: // the last one is a link-local address without its zone
		return Problem{
			Reason: NoAddress, Text: fmt.Sprintf("%s is no address of this machine (%s)", host, errno), Err: errno,
			Advice: `set "host" to one that "ip addr" lists, or to 0.0.0.0 for all; if it comes up later (DHCP, a VPN), start after that`,
		}, nil
	case syscall.EACCES, syscall.EPERM:
		return Problem{
			Reason: Forbidden, Text: fmt.Sprintf("this user may not use it (%s)", errno), Err: errno,
			Advice: forbiddenAdvice(port),
		}, nil
	}
	return Problem{}, err
}

const adviceTaken = `stop what uses the port, or change "port"`

// taken says who has a port that somebody has.
func taken(host string, port int, known Known) Problem {
	if owner, advice := listener(host, port, known); owner != "" {
		return Problem{Reason: Taken, Text: "it is taken by " + owner, Advice: advice}
	}
	if holder := client(port); holder != "" {
		return Problem{Reason: Taken, Text: "it is the local port of a connection of " + holder, Advice: clientAdvice(port)}
	}
	return Problem{
		Reason: Taken, Text: "something holds it that does not listen and that this user cannot see (" + syscall.EADDRINUSE.Error() + ")",
		Advice: adviceTaken,
	}
}

// Holder says who keeps others from listening on host and port, or "" when nobody does.
func Holder(host string, port int, known Known) string {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		l.Close()
		return ""
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return "" // an address that has gone, or a right: nobody has it
	}
	return taken(host, port, known).Text
}

// Loopback is the address at which this machine reaches a server that listens on host.
func Loopback(host string) string {
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
