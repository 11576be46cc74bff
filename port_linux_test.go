package provisioner

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// A vLLM that loads has its port without listening on it, and Linux would let a second one load for as long, to fail at the end.
func TestStartOnABoundPort(t *testing.T) {
	t.Parallel()
	first := vllmFake(t, enginetest.Behavior{LoadTime: time.Hour})
	loading, _ := started(t, first)
	eventually(t, "the port is bound", func() bool { return boundSilently("127.0.0.1", first.Port) })
	second := vllmFake(t, enginetest.Behavior{})
	second.Port = first.Port
	p, _ := newLaunch(t, second)
	err := p.Start(bounded(t))
	wantText(t, err, "it is bound by a process that does not listen yet", `change "port"`)
	if causeOf(err) != CausePortInUse {
		t.Errorf("cause %q", causeOf(err))
	}
	if err := loading.Stop(bounded(t)); err != nil && !errors.Is(err, ErrKilled) {
		t.Error(err)
	}
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
	if problem := portProblem("127.0.0.1", port); problem != "" || boundSilently("127.0.0.1", port) {
		t.Errorf("the port is taken: %q", problem)
	}
	if boundSilently("::1", port) {
		t.Error("the port is taken on ::1")
	}
}

// Each reason for which nobody can listen has its own sentence, cause and advice; two of them do not pass by waiting.
func TestTryPort(t *testing.T) {
	t.Parallel()
	port := enginetest.FreePort(t, 2)
	if problem, err := tryPort("127.0.0.1", port); err != nil || problem != (listenProblem{}) {
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
	for name, c := range map[string]struct {
		host   string
		port   int
		cause  Cause
		busy   bool
		text   []string
		unable bool
	}{
		"a listener": {
			"127.0.0.1", port, CausePortInUse, true, []string{"is not free: it is taken by \"", fmt.Sprintf("(pid %d)", os.Getpid()), "-test.", "stop what uses the port"}, false,
		},
		"a listener on one address": {
			"0.0.0.0", port, CausePortInUse, true, []string{"it is taken by \"", fmt.Sprintf("(pid %d)", os.Getpid())}, false,
		},
		"a client": {
			"127.0.0.1", port + 1, CausePortInUse, true,
			[]string{"is not free: it is the local port of a connection of \"", fmt.Sprintf("(pid %d) to 127.0.0.1:%d", os.Getpid(), port), "it passes"},
			false,
		},
		"another machine's": {"203.0.113.9", port, CauseBadAddress, false, []string{"cannot listen on port", "203.0.113.9 is no address of this machine", `"host"`}, false},
		"a link's":          {"fe80::1", port, CauseBadAddress, false, []string{"fe80::1 is no address of this machine"}, false},
		"no right":          {"127.0.0.1", 1, CausePortForbidden, false, []string{"cannot listen on port 1: this user may not use it", "from 1024 on", "CAP_NET_BIND_SERVICE"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var problem listenProblem
			var err error
			try := func() { problem, err = tryPort(c.host, c.port) }
			if c.unable {
				if unprivilegedPort() != 1024 {
					skip(t, "needs net.ipv4.ip_unprivileged_port_start=1024")
				}
				withoutRight(t, unix.CAP_NET_BIND_SERVICE, try)
			} else {
				try()
			}
			if err != nil || problem.cause != c.cause {
				t.Fatalf("%+v, %v", problem, err)
			}
			told := (&EngineProvisioner{cfg: ProvisionConfig{PoolID: "pool", ReplicaID: "r0"}}).startError(&portError{Port{Number: c.port}, problem})
			wantText(t, told, c.text...)
			if causeOf(told) != c.cause || errors.Is(told, ErrBusy) != c.busy {
				t.Errorf("cause %q, busy %t: %v", causeOf(told), errors.Is(told, ErrBusy), told)
			}
			if e := incidentOf(told); e.Blameless != c.busy || e.Permanent == c.busy {
				t.Errorf("%+v", e)
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

// An engine of ours on the port is told as that, whichever state directory it belongs to.
func TestPortTakenByOurOwnEngine(t *testing.T) {
	t.Parallel()
	first, _ := ready(t, fakeConfig(t, enginetest.Behavior{}))
	second := fakeConfig(t, enginetest.Behavior{})
	second.Port = first.cfg.Port
	p, _ := newLaunch(t, second)
	err := p.Start(bounded(t))
	state, abs := filepath.Abs(first.cfg.StateDir)
	if abs != nil {
		t.Fatal(abs)
	}
	wantText(t, err, fmt.Sprintf("the engine pool/r0 of the state directory %q: ", state), "-enginetest", "engine-provisioner stop --state-dir "+state)
}

func TestCommandLineHidesSecrets(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"vllm serve --api-key [redacted] [redacted] --port 80": {"vllm", "serve", "--api-key", "sk-1", "sk-2", "--port", "80"},
		"x --api-key=[redacted] --tokenizer t --max-tokens 4":  {"x", "--api-key=sk-1", "--tokenizer", "t", "--max-tokens", "4"},
		"sh -c HF_TOKEN=[redacted] serve":                      {"sh", "-c", "HF_TOKEN=sk-1 serve"},
		"curl -H Authorization: Bearer [redacted] http://x":    {"curl", "-H", "Authorization: Bearer sk-1", "http://x"},
		"get https://[redacted]@hub/x":                         {"get", "https://user:sk-1@hub/x"},
		"a b c":                                                {"a", "b\n c"},
		"x " + strings.Repeat("y", 238) + "…":                  {"x", strings.Repeat("y", 300)},
	} {
		if got := commandLine(args); got != want || strings.Contains(got, "sk-") {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
}
