package procfs

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

// Both ways to find used ports must say the same of each kind of socket: the fast way is no other check.
func TestUsedPorts(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listens := uint16(l.Addr().(*net.TCPAddr).Port)
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	connects := uint16(client.LocalAddr().(*net.TCPAddr).Port)
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(bound) }()
	if err := unix.Bind(bound, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(bound)
	if err != nil {
		t.Fatal(err)
	}
	binds := uint16(name.(*unix.SockaddrInet4).Port)
	check := func(when string, want map[uint16]bool) {
		t.Helper()
		fast, err := diagUsed()
		if err != nil {
			host.Skip(t, "no sock_diag here: "+err.Error())
		}
		slow, err := readUsedPorts()
		if err != nil {
			t.Fatal(err)
		}
		for port, used := range want {
			if fast[port] != used || slow[port] != used {
				t.Errorf("%s: port %d: sock_diag says %v, the tables say %v, want %v", when, port, fast[port], slow[port], used)
			}
		}
	}
	check("connected", map[uint16]bool{listens: true, connects: true, binds: false})
	client.Close() // first, so that its side keeps the port for a minute
	served.Close()
	l.Close()
	check("closed", map[uint16]bool{listens: false, connects: true, binds: false})
}
