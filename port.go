package provisioner

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// portError says why an engine could not listen on a port.
type portError struct {
	port Port
	listenProblem
}

// listenProblem is why nobody can listen on an address. The zero value is that of one that is free.
type listenProblem struct {
	cause  Cause  // CausePortInUse, CauseBadAddress or CausePortForbidden
	text   string // such as "it is taken by …"
	advice string
	err    error
}

func (e *portError) Error() string {
	what := fmt.Sprintf("port %d", e.port.Number)
	if e.port.Use != "" {
		what += ", for " + e.port.Use + ","
	}
	if e.cause == CausePortInUse {
		return what + " is not free: " + e.text
	}
	return "cannot listen on " + what + ": " + e.text
}

// Unwrap tells what passes from what does not: a port is given back, an address or a right does not come by itself.
func (e *portError) Unwrap() error {
	if e.cause == CausePortInUse {
		return ErrBusy
	}
	return e.err
}

// checkPort refuses a port that the engine could not listen on. An executable or a container's runtime may have rights that
// this program has not.
func (p *EngineProvisioner) checkPort(port Port, executable string) error {
	problem, err := tryPort(p.cfg.Host, port.Number)
	switch {
	case err != nil:
		return fmt.Errorf("cannot listen on port %d: %w", port.Number, err)
	case problem.cause == "", problem.cause == CausePortForbidden && (p.cfg.contained() || hasCapabilities(executable)):
		return nil
	}
	return &portError{port, problem}
}

// explainBind says what the engine leaves out that could not listen: llama-server has one sentence for all reasons.
func (r *run) explainBind(f *Failure) {
	ports := append([]Port{{Number: r.rec.Port}}, r.rec.Launch.Spec.Ports...)
	for _, port := range ports {
		problem, err := tryPort(r.rec.Host, port.Number)
		if err != nil || problem.cause == "" {
			continue
		}
		f.Cause, f.Retry = problem.cause, f.Retry && retryable(problem.cause)
		f.Advice = (&portError{port, problem}).Error() + "; " + problem.advice
		return
	}
	f.Advice = fmt.Sprintf("port %d is free by now; if that happens again, look at what else the engine needs to listen, such as the files of TLS", r.rec.Port)
}

// tryPort finds out whether an engine could listen. The error is that of a machine on which nobody can tell.
func tryPort(host string, port int) (listenProblem, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		l.Close()
		if boundSilently(host, port) {
			return listenProblem{
				cause: CausePortInUse, text: "it is bound by a process that does not listen yet, such as a vLLM that loads",
				advice: adviceTakenPort,
			}, nil
		}
		return listenProblem{}, nil
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return listenProblem{}, err
	}
	switch errno {
	case syscall.EADDRINUSE:
		return takenPort(host, port), nil
	case syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.EINVAL: // the last one is a link-local address without its zone
		return listenProblem{
			cause: CauseBadAddress, text: fmt.Sprintf("%s is no address of this machine (%s)", host, errno), err: errno,
			advice: `set "host" to one that "ip addr" lists, or to 0.0.0.0 for all; if it comes up later (DHCP, a VPN), start after that`,
		}, nil
	case syscall.EACCES, syscall.EPERM:
		return listenProblem{
			cause: CausePortForbidden, text: fmt.Sprintf("this user may not use it (%s)", errno), err: errno,
			advice: forbiddenAdvice(port),
		}, nil
	}
	return listenProblem{}, err
}

const adviceTakenPort = `stop what uses the port, or change "port"`

// takenPort says who has a port that somebody has.
func takenPort(host string, port int) listenProblem {
	if owner, advice := portListener(host, port); owner != "" {
		return listenProblem{cause: CausePortInUse, text: "it is taken by " + owner, advice: advice}
	}
	if holder := portClient(port); holder != "" {
		return listenProblem{cause: CausePortInUse, text: "it is the local port of a connection of " + holder, advice: adviceClientPort(port)}
	}
	return listenProblem{
		cause: CausePortInUse, text: "something holds it that does not listen and that this user cannot see (" + syscall.EADDRINUSE.Error() + ")",
		advice: adviceTakenPort,
	}
}

// portProblem says who keeps others from listening on host and port, or "" when nobody does.
func portProblem(host string, port int) string {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		l.Close()
		return ""
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return "" // an address that has gone, or a right: nobody has it
	}
	return takenPort(host, port).text
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
