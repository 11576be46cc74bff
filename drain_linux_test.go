package provisioner

import (
	"net"
	"strconv"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/drain"
)

// An engine that says 0 is believed at once when nobody is connected to it, and else only when it says so again: a client may
// have sent what no gauge shows yet.
func TestWhoIsConnectedIsWaitedFor(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	p, _ := ready(t, cfg)
	alone := func() bool { return drain.Alone(p.run.inst.PID(), cfg.Port) }
	eventually(t, "nobody is connected", alone)
	conn, err := net.Dial("tcp", net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if alone() {
		t.Error("a client is not seen")
	}
	conn.Close()
	eventually(t, "the client has gone", alone)
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
	if alone() {
		t.Error("it can be told of an engine that is gone")
	}
}
