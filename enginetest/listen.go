package enginetest

import (
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// address is where to listen, with what the behaviour wants wrong about it.
func (e *engine) address() (network, address string, err error) {
	address = net.JoinHostPort(e.opts.host, e.opts.port)
	switch {
	case e.b.Bind == BindNever:
		e.log('I', "main: downloading the model")
		select {}
	case e.b.Bind == BindFail:
		return "", "", syscall.EADDRINUSE
	case e.b.Bind == BindOther:
		address = net.JoinHostPort(e.opts.host, "0")
	case strings.HasSuffix(e.opts.host, ".sock"):
		return "unix", e.opts.host, nil
	}
	return "tcp", address, nil
}

// listen opens the port and starts to answer on it.
func (e *engine) listen() error {
	if err := e.open(); err != nil {
		return err
	}
	e.answer()
	return nil
}

// open opens the port: whoever connects waits until answer is called.
func (e *engine) open() error {
	network, address, err := e.address()
	if err == nil {
		e.listener, err = net.Listen(network, address)
	}
	return err
}

// answer starts to answer on the listener.
func (e *engine) answer() {
	if e.b.Health == AcceptOnly {
		go e.acceptOnly()
		return
	}
	e.server = &http.Server{Handler: e.handler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = e.server.Serve(e.listener) }()
}

// acceptOnly accepts connections and leaves them alone.
func (e *engine) acceptOnly() {
	var held []net.Conn
	for {
		conn, err := e.listener.Accept()
		if err != nil {
			runtime.KeepAlive(held) // a connection that nobody holds is closed by the garbage collector
			return
		}
		held = append(held, conn)
	}
}

// bindOnly binds the port without listening: connections are refused, and nobody else gets it.
func (e *engine) bindOnly() (fd int, err error) {
	network, address, err := e.address()
	if err != nil {
		return 0, err
	}
	at, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return 0, err
	}
	family, sockaddr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: at.Port, Addr: [4]byte(at.IP.To4())})
	if at.IP.To4() == nil {
		family, sockaddr = unix.AF_INET6, &unix.SockaddrInet6{Port: at.Port, Addr: [16]byte(at.IP.To16())}
	}
	syscall.ForkLock.RLock()
	fd, err = unix.Socket(family, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, err
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(fd, sockaddr)
	}
	return fd, err
}

// listenOn listens on what bindOnly has bound, and answers.
func (e *engine) listenOn(fd int) error {
	if err := unix.Listen(fd, 2048); err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "port")
	defer func() { _ = file.Close() }()
	var err error
	if e.listener, err = net.FileListener(file); err != nil {
		return err
	}
	e.answer()
	return nil
}

// url is where the engine listens.
func (e *engine) url() string {
	if e.listener.Addr().Network() == "unix" {
		return "unix://" + e.listener.Addr().String()
	}
	return "http://" + e.listener.Addr().String()
}
