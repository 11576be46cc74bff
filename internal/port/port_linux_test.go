package port

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

func listen(t *testing.T, port int) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Connections of the past keep nobody from a port.
func TestOldConnectionsLeaveAPortFree(t *testing.T) {
	t.Parallel()
	port := enginetest.FreePort(t, 1)
	l := listen(t, port)
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	// Who closes first has the connection for another minute.
	if err := errors.Join(server.Close(), client.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if bindable("127.0.0.1", port) {
		t.Error("there is no old connection")
	}
	if problem := Holder("127.0.0.1", port, nil); problem != "" || boundSilently("127.0.0.1", port) {
		t.Errorf("the port is taken: %q", problem)
	}
	if boundSilently("::1", port) {
		t.Error("the port is taken on ::1")
	}
}

// Each reason for which nobody can listen has its own sentence and advice.
func TestTry(t *testing.T) {
	t.Parallel()
	port := enginetest.FreePort(t, 2)
	if problem, err := Try("127.0.0.1", port, nil); err != nil || problem != (Problem{}) {
		t.Fatalf("a free port: %+v, %v", problem, err)
	}
	server := listen(t, port)
	t.Cleanup(func() { server.Close() })
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port + 1}}
	client, err := dialer.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	this := fmt.Sprintf("\" (pid %d)", os.Getpid())
	known := func(pid int) (what, advice string) {
		if pid != os.Getpid() {
			t.Errorf("asked for %d", pid)
		}
		return "a test", "end the test"
	}
	for name, c := range map[string]struct {
		host   string
		port   int
		known  Known
		reason Reason
		text   string
		advice string
		unable bool
	}{
		"a listener":                {"127.0.0.1", port, nil, Taken, this + ": ", "stop what uses the port", false},
		"a listener that is known":  {"127.0.0.1", port, known, Taken, this + ", a test: ", "end the test", false},
		"a listener that is not":    {"127.0.0.1", port, func(int) (a, b string) { return }, Taken, this + ": ", "stop what uses the port", false},
		"a listener on one address": {"0.0.0.0", port, nil, Taken, this, "stop what uses the port", false},
		"a client": {
			"127.0.0.1", port + 1, nil, Taken,
			fmt.Sprintf("%s to 127.0.0.1:%d", this, port), "it passes when that connection ends", false,
		},
		"another machine's": {"203.0.113.9", port, nil, NoAddress, "203.0.113.9 is no address of this machine", `"host"`, false},
		"a link's":          {"fe80::1", port, nil, NoAddress, "fe80::1 is no address of this machine", `"host"`, false},
		"no right":          {"127.0.0.1", 1, nil, Forbidden, "this user may not use it", "from 1024 on", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var problem Problem
			var err error
			try := func() { problem, err = Try(c.host, c.port, c.known) }
			if c.unable {
				if unprivilegedPort() != 1024 {
					host.Skip(t, "needs net.ipv4.ip_unprivileged_port_start=1024")
				}
				withoutRight(t, unix.CAP_NET_BIND_SERVICE, try)
			} else {
				try()
			}
			if err != nil || problem.Reason != c.reason || (problem.Err == nil) != (c.reason == Taken) {
				t.Fatalf("%+v, %v", problem, err)
			}
			if !strings.Contains(problem.Text, c.text) || !strings.Contains(problem.Advice, c.advice) {
				t.Errorf("%q: %q, want %q: %q", problem.Text, problem.Advice, c.text, c.advice)
			}
		})
	}
}

// withoutRight runs do on a thread that lacks a capability and ends with it.
func withoutRight(t *testing.T, capability uint, do func()) {
	t.Helper()
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is not used again
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		data[0].Effective &^= 1 << capability
		if err == nil {
			err = unix.Capset(&header, &data[0])
		}
		if err == nil {
			do()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}
