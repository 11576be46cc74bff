package provisioner

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/report"
)

// ownPidsEnv says that this process is the first one of a pid namespace.
const ownPidsEnv = "TEST_OWN_PIDS"

// withOwnPids runs the test in a process of its own, with pids of its own: whoever chooses the machine's next pid gives
// back those of all other programs, too, and their forks would take the chosen one. It reports whether this is that process.
func withOwnPids(t *testing.T) bool {
	t.Helper()
	if os.Getenv(ownPidsEnv) != "" {
		private := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		if err := errors.Join(private, unix.Mount("proc", "/proc", "proc", 0, "")); err != nil {
			t.Fatal(err)
		}
		return true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), ownPidsEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		skip(t, "needs root for a pid namespace: "+err.Error())
	}
	if err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("%s", out)
	return false
}

// A pid that was used again is never signalled, though the record names it.
func TestChaosReusedPid(t *testing.T) {
	t.Parallel()
	if !withOwnPids(t) {
		return
	}
	const last = "/proc/sys/kernel/ns_last_pid"
	cfg := fakeConfig(t, enginetest.Behavior{})
	cache := WithCacheDir(t.TempDir())
	tried, hit := 0, 0
	for range 20 {
		p, _ := ready(t, cfg, cache)
		p.Release()
		pid := p.run.host().Leader.PID
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_, _ = p.run.host().Leader.Child().Wait()
		tried++
		stranger, counted := strangerAt(t, last, pid)
		if stranger == nil {
			continue // a thread was quicker
		}
		hit++
		rec, err := readRecord(p.run.files)
		if err != nil || rec.Process.PID != pid {
			t.Fatalf("record of %d: %+v (%v)", pid, rec.Process, err)
		}
		if _, err := Attach(cfg.StateDir, poolR0); !errors.Is(err, ErrNotRunning) {
			t.Errorf("Attach: %v", err)
		}
		if err := writeRecord(p.run.files, rec); err != nil { // as if nobody had put it away
			t.Fatal(err)
		}
		if _, found, err := Recover(t.Context(), cfg.StateDir); err != nil || len(found) != 1 || found[0].Result != report.RecoveredGone {
			t.Errorf("Recover: %+v (%v)", found, err)
		}
		if err := writeRecord(p.run.files, rec); err != nil {
			t.Fatal(err)
		}
		again, _ := ready(t, cfg, cache)
		if err := again.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if got := counted(); got != 0 {
			t.Errorf("the stranger got %d signals", got)
		}
	}
	if hit == 0 {
		t.Fatal("no pid was had again: this test proves nothing")
	}
	t.Logf("chaos: %d pids of %d were a stranger's afterwards: 0 signals", hit, tried)
}

// strangerAt starts a process with this pid, a leader of its session as the engine was; nil when it cannot be had.
// counted ends it and tells how many signals it had got; a process that was killed counts as one.
func strangerAt(t *testing.T, last string, pid int) (cmd *exec.Cmd, counted func() int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		cmd = exec.Command(exe, strangerFlag, "x")
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // the race detector sleeps for a second at each exit
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(last, []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Fatalf("cannot choose a pid: %v", err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if cmd.Process.Pid == pid {
			begun := make([]byte, 6)
			if _, err := io.ReadFull(out, begun); err != nil {
				t.Fatal(err)
			}
			return cmd, func() int {
				_ = in.Close()
				text, _ := io.ReadAll(out)
				if err := cmd.Wait(); err != nil {
					return 1
				}
				n, err := strconv.Atoi(strings.TrimSpace(string(text)))
				if err != nil {
					t.Errorf("the stranger says %q", text)
				}
				return n
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return nil, nil
}
