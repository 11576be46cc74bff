package provisioner

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
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

// A child that is just being started holds its parent's sockets, and can have the lower number.
func TestOwnerOfASocketIsItsOldestHolder(t *testing.T) {
	t.Parallel()
	holders := []procfs.Stat{{PID: 14575, Comm: "child", StartTicks: 900}, {PID: 31310, Comm: "server", StartTicks: 100}}
	if got := oldest(holders); got != `"server" (pid 31310)` {
		t.Error(got)
	}
	if got := oldest(nil); got != "a process of another user" {
		t.Error(got)
	}
}
