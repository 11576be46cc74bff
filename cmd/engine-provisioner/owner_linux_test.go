package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// limited runs a command by this user without root's right to every file, and returns all that it says.
func limited(t *testing.T, cmd *exec.Cmd) (said string, status int) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout = &out
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: what is started from this thread has no more than its bounding set
		for _, right := range []uintptr{unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH} {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, right, 0, 0, 0); err != nil {
				done <- err
				return
			}
		}
		_ = cmd.Run() // its status says how it ended
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return out.String() + stderrOf(t, cmd), cmd.ProcessState.ExitCode()
}

// TestOwnerIsNamed gives commands what belongs to another user: each fails, and names the owner, the mode and the way out.
func TestOwnerIsNamed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of another user")
	}
	// prepare makes a folder with a pools file whose replica lacks nothing. What change returns is another user's from then on.
	prepare := func(t *testing.T, more string, change func(dir string) (others string)) string {
		t.Helper()
		dir := t.TempDir()
		engine := enginetest.Install(t, enginetest.Behavior{})
		text := fmt.Sprintf("state_dir: state\npools: [{id: a, engine: llamacpp, port: %d, gpu: none, model: {id: model.gguf}, provisioning: {binary: {path: %q}}%s}]\n",
			enginetest.FreePort(t, 1), engine, more)
		for name, content := range map[string]string{"pools.yaml": text, "model.gguf": enginetest.GGUF, "key": "secret\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		others := change(dir)
		if err := filepath.WalkDir(others, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = os.Chown(path, 12345, 12345)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	check := func(t *testing.T, dir, others string, args ...string) {
		t.Helper()
		cmd := command(t, nil, append(args, "--config", filepath.Join(dir, "pools.yaml"))...)
		cmd.Dir = dir
		said, status := limited(t, cmd)
		if status == 0 || !strings.Contains(said, strconv.Quote(others)) || !strings.Contains(said, "uid 12345") || !strings.Contains(said, "run as the owner") {
			t.Errorf("%q: status %d, and it says:\n%s", args, status, said)
		}
	}
	t.Run("state directory", func(t *testing.T) {
		t.Parallel()
		var state string
		dir := prepare(t, "", func(dir string) string {
			state = filepath.Join(dir, "state")
			if err := os.Mkdir(state, 0o700); err != nil {
				t.Fatal(err)
			}
			return state
		})
		for _, args := range [][]string{
			{},
			{"--detach"},
			{"status"},
			{"stop"},
			{"stop", "a"},
			{"doctor"},
			{"logs"},
			{"events"},
			{"wait"},
			{"ask", "hello"},
			{"reload"},
			{"start"},
			{"restart"},
			{"reset", "a/r0"},
			{"hold", "a/r0", "--reason", "x"},
			{"unhold", "a/r0"},
		} {
			t.Run(strings.Join(args, " "), func(t *testing.T) {
				t.Parallel()
				check(t, dir, state, args...)
			})
		}
	})
	for name, c := range map[string]struct {
		command string
		more    string
		others  func(dir string) string
	}{
		"pools file": {"validate", "", func(dir string) string { return filepath.Join(dir, "pools.yaml") }},
		"model":      {"--detach", "", func(dir string) string { return filepath.Join(dir, "model.gguf") }},
		"secret":     {"--detach", ", api_key: {from_file: key}", func(dir string) string { return filepath.Join(dir, "key") }},
		"record": {"status", "", func(dir string) string {
			record := filepath.Join(dir, "state", "a-r0", "record.json")
			if err := os.MkdirAll(filepath.Dir(record), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(record, []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
			return record
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var others string
			dir := prepare(t, c.more, func(dir string) string { others = c.others(dir); return others })
			check(t, dir, others, c.command)
		})
	}
	t.Run("folder of others", func(t *testing.T) {
		t.Parallel()
		var others string
		dir := prepare(t, "", func(dir string) string {
			others = filepath.Join(dir, "others")
			if err := os.Mkdir(others, 0o700); err != nil {
				t.Fatal(err)
			}
			return others
		})
		if err := os.Remove(filepath.Join(dir, "model.gguf")); err != nil { // the run fails, and would leave a message
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"run", filepath.Join(others, "model.gguf")},
			{"init", filepath.Join(others, "model.gguf"), "--file", "new.yaml"},
			{"--config", "pools.yaml", "--termination-log", filepath.Join(others, "log")},
		} {
			cmd := command(t, nil, args...)
			cmd.Dir = dir
			said, status := limited(t, cmd)
			if status == 0 || !strings.Contains(said, strconv.Quote(others)) || !strings.Contains(said, "uid 12345") {
				t.Errorf("%q: status %d, and it says:\n%s", args, status, said)
			}
		}
	})
	t.Run("executable", func(t *testing.T) {
		t.Parallel()
		var others string
		dir := prepare(t, "", func(dir string) string {
			others = filepath.Join(dir, "server")
			if err := os.WriteFile(others, []byte("#!/bin/sh\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			return others
		})
		text, err := os.ReadFile(filepath.Join(dir, "pools.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		before, _, _ := strings.Cut(string(text), "provisioning:")
		if err := os.WriteFile(filepath.Join(dir, "pools.yaml"), []byte(before+"provisioning: {binary: {path: ./server}}}]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		check(t, dir, others, "--detach")
	})
	t.Run("socket of the container runtime", func(t *testing.T) {
		t.Parallel()
		var others string
		dir := prepare(t, "", func(dir string) string {
			others = filepath.Join(dir, "docker.sock")
			l, err := net.Listen("unix", others)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			if err := os.Chmod(others, 0o660); err != nil {
				t.Fatal(err)
			}
			return others
		})
		text := fmt.Sprintf("state_dir: state\npools: [{id: a, engine: llamacpp, port: %d, gpu: none, model: {id: %q}, provisioning: {mode: container, container: {runtime_socket: %q}}}]\n",
			enginetest.FreePort(t, 1), filepath.Join(dir, "model.gguf"), others)
		if err := os.WriteFile(filepath.Join(dir, "pools.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		check(t, dir, others, "--detach")
	})
}
