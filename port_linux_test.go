package provisioner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/port"
)

// A vLLM that loads has its port without listening on it, and Linux would let a second one load for as long, to fail at the end.
func TestStartOnABoundPort(t *testing.T) {
	t.Parallel()
	first := vllmFake(t, enginetest.Behavior{LoadTime: time.Hour})
	loading, _ := started(t, first)
	// A try binds the port for a moment, in which the engine could not: it has a socket first, for two looks.
	looks := 0
	eventually(t, "it has a socket", func() bool {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", loading.Status().PID))
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); strings.HasPrefix(to, "socket:") {
				looks++
				return looks > 1
			}
		}
		return false
	})
	eventually(t, "the port is bound", func() bool {
		problem, err := port.Try("127.0.0.1", first.Port, nil)
		return err == nil && problem.Reason == port.Taken
	})
	second := vllmFake(t, enginetest.Behavior{})
	second.Port = first.Port
	p, _ := newLaunch(t, second)
	err := p.Start(bounded(t))
	wantText(t, err, "it is bound by a process that does not listen yet", `change "port"`)
	if causeOf(err) != engine.CausePortInUse {
		t.Errorf("cause %q", causeOf(err))
	}
	if err := loading.Stop(bounded(t)); err != nil && !errors.Is(err, ErrKilled) {
		t.Error(err)
	}
}

// Each reason for which nobody can listen is a cause of a failed start; two of them do not pass by waiting.
func TestPortError(t *testing.T) {
	t.Parallel()
	for reason, c := range map[port.Reason]struct {
		cause engine.Cause
		busy  bool
		text  string
	}{
		port.Taken:     {engine.CausePortInUse, true, "port 81 is not free: why"},
		port.NoAddress: {engine.CauseBadAddress, false, "cannot listen on port 81: why"},
		port.Forbidden: {engine.CausePortForbidden, false, "cannot listen on port 81: why"},
	} {
		problem := port.Problem{Reason: reason, Text: "why", Advice: "do so"}
		if !c.busy {
			problem.Err = unix.EACCES
		}
		told := (&EngineProvisioner{cfg: ProvisionConfig{PoolID: "pool", ReplicaID: "r0"}}).startError(&port.Error{Port: engine.Port{Number: 81}, Problem: problem})
		wantText(t, told, c.text, "do so")
		if causeOf(told) != c.cause || errors.Is(told, ErrBusy) != c.busy {
			t.Errorf("cause %q, busy %t: %v", causeOf(told), errors.Is(told, ErrBusy), told)
		}
		if e := IncidentOf(told); e.Blameless != c.busy || e.Permanent == c.busy {
			t.Errorf("%+v", e)
		}
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
