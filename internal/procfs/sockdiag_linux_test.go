package procfs

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

// Both ways to find listeners must find the same ones: the fast way is no other check.
func TestListeners(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, listen, ask string }{
		{"IPv4", "127.0.0.1:0", "127.0.0.1"},
		{"any IPv4", "0.0.0.0:0", "127.0.0.1"},
		{"another address", "127.0.0.2:0", "127.0.0.1"},
		{"IPv6", "[::1]:0", "::1"},
		{"both", "[::]:0", "127.0.0.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", tc.listen)
			if err != nil && strings.Contains(tc.listen, "::") {
				host.Skip(t, "no IPv6 here: "+err.Error())
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			conn, err := net.Dial("tcp", l.Addr().String()) // the port of a connection is no listener
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			addr, port := netip.MustParseAddr(tc.ask), uint16(l.Addr().(*net.TCPAddr).Port)
			all, err := diagListeners()
			if err != nil {
				host.Skip(t, "no sock_diag here: "+err.Error())
			}
			fast := reachable(all, addr, port)
			slow, err := tableListeners(os.Getpid(), addr, port)
			if err != nil || !slices.Equal(fast, slow) {
				t.Errorf("sock_diag says %v, the tables say %v (%v)", fast, slow, err)
			}
			want := 1
			if tc.name == "another address" {
				want = 0
			}
			if len(fast) != want {
				t.Errorf("%d listeners, want %d", len(fast), want)
			}
			if !sameNetwork(os.Getpid()) {
				t.Error("not in its own network namespace")
			}
		})
	}
}

// A connection counts until its client has gone, also one that the server has not yet taken.
func TestConnected(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	wait := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; {
			n, err := Connected(os.Getpid(), port)
			if err != nil {
				host.Skip(t, "no sock_diag here: "+err.Error())
			}
			if n == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d connections, want %d", n, want)
			}
		}
	}
	wait(0)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	wait(1)
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil { // it may still wait for its answer
		t.Fatal(err)
	}
	wait(1)
	conn.Close()
	served.Close()
	wait(0)
}
