package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
)

// command is this command in a process of its own. What it says on stderr is shown when the test fails: an end that
// nobody expects has its reason there.
func command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stderr.Close() })
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Args = append([]string{"engine-provisioner"}, args...) // by this name the test binary becomes the command
	cmd.Env = append(append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir(), "XDG_STATE_HOME="+t.TempDir(), "GORACE=atexit_sleep_ms=0"), env...)
	cmd.Stderr = stderr // a file: no end of a pipe to wait for
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%q: %v; its stderr:\n%s", cmd.Args, cmd.ProcessState, stderrOf(t, cmd))
		}
	})
	return cmd
}

// stderrOf is what a command has said there.
func stderrOf(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	file, _ := cmd.Stderr.(*os.File)
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// signalOf is the signal by which a process has ended, -1 when it was none.
func signalOf(cmd *exec.Cmd) syscall.Signal {
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status.Signal()
}

func exitOf(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// busyName is the name by which the test binary becomes busyMain.
const busyName = "busy"

// busyMain is the command's end at a signal, without the command: memory is copied for ever, which under the race detector
// is the detector's code nearly all the time. It has the main thread, which gets the process's signals first.
func busyMain() {
	debug.SetTraceback("crash")
	panicAt(syscall.SIGABRT, syscall.SIGQUIT)
	go fmt.Println("begun") // from another thread, while this one copies
	from, to := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		copy(to, from)
	}
}

// TestEndBySignal: whatever the program does at that moment, the stacks are told and the end is that of a panic.
func TestEndBySignal(t *testing.T) {
	t.Parallel()
	for _, sent := range []syscall.Signal{syscall.SIGABRT, syscall.SIGQUIT} {
		for range 10 {
			cmd := command(t, nil)
			cmd.Args[0] = busyName
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err == nil {
				_, err = fmt.Fscanln(out, new(string))
			}
			if err == nil {
				err = cmd.Process.Signal(sent)
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // ProcessState says it
			said := stderrOf(t, cmd)
			if signalOf(cmd) != syscall.SIGABRT || !strings.Contains(said, "told to end by signal: "+sent.String()) ||
				!strings.Contains(said, "\ngoroutine 1 ") {
				t.Errorf("after %s: %v", sent, cmd.ProcessState)
			}
		}
	}
}
