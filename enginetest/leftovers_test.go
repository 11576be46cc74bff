package enginetest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// leaky tells TestLeaky, in a test binary of its own, to leave an engine behind.
const leaky = "ENGINETEST_LEAKY"

func TestLeaky(t *testing.T) {
	if os.Getenv(leaky) == "" {
		return // not a skip: it is a tool of TestRunFindsLeftovers
	}
	cmd, url := command(t, Behavior{Children: []Child{{Kind: DoubleFork, IgnoreTerm: true}}})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{url: url, cmd: cmd}
	p.waitReady(t)
}

func TestRunFindsLeftovers(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestLeaky$", "-test.v")
	cmd.Env = append(os.Environ(), leaky+"=1")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "--- PASS: TestLeaky") {
		t.Errorf("the tests pass and the run must fail: %v\n%s", err, out)
	}
	if n := strings.Count(string(out), "of a fake engine is still alive: "); n != 2 {
		t.Errorf("%d leftovers reported, want the engine and its child:\n%s", n, out)
	}
}

func TestCookiesDiffer(t *testing.T) {
	t.Parallel()
	// The engine of another test process, by its command line.
	other := exec.Command("/bin/sh", "-c", "read x", marker, "cookie-of-another")
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Wait() }()
	defer func() { _ = stdin.Close() }()
	for deadline := time.Now().Add(limit); !strings.Contains(commandLines()[other.Process.Pid], marker); {
		if time.Now().After(deadline) {
			t.Fatal("the other process is not listed")
		}
		time.Sleep(time.Millisecond)
	}
	for _, pid := range Leftovers() {
		if pid == other.Process.Pid {
			t.Error("the engine of another test process counts as ours")
		}
	}
}
