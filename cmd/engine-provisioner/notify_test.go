package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/hubtest"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/node"
)

// serviceManager listens as systemd does: it takes every message at once. The kernel keeps ten that nobody takes, and the
// command then drops what it would say.
type serviceManager struct {
	t        *testing.T
	conn     *net.UnixConn
	messages chan string
}

func listenAs(t *testing.T, name string) *serviceManager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &serviceManager{t, conn, make(chan string, 100_000)}
	var reading sync.WaitGroup
	reading.Go(func() {
		buffer := make([]byte, 4096)
		for n, err := conn.Read(buffer); err == nil; n, err = conn.Read(buffer) {
			m.messages <- string(buffer[:n])
		}
	})
	t.Cleanup(func() { _ = conn.Close(); reading.Wait() })
	return m
}

// next is the next message.
func (m *serviceManager) next() string {
	m.t.Helper()
	select {
	case message := <-m.messages:
		return message
	case <-time.After(patience):
		m.t.Fatal("nothing is told")
		return ""
	}
}

// until reads messages up to the one that is wanted, and returns those before.
func (m *serviceManager) until(want string) []string {
	m.t.Helper()
	var before []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		message := m.next()
		if message == want {
			return before
		}
		before = append(before, message)
	}
	m.t.Fatalf("not told: %q", want)
	return nil
}

// rest is what was told and not read, when nobody tells anything more.
func (m *serviceManager) rest() []string {
	m.t.Helper()
	const last = "the last message, by the test"
	if _, err := m.conn.WriteTo([]byte(last), m.conn.LocalAddr()); err != nil {
		m.t.Fatal(err)
	}
	return m.until(last)
}

// poolsFile writes a pools file with replicas of a fake engine, and returns its path and the first port.
func poolsFile(t *testing.T, replicas int) (path string, port int) {
	t.Helper()
	dir := t.TempDir()
	engine := enginetest.Install(t, enginetest.Behavior{Lifetime: 20 * time.Minute})
	port = enginetest.FreePort(t, replicas)
	text := fmt.Sprintf("state_dir: elsewhere\npools:\n  - {id: default, engine: llamacpp, replicas: %d, port: %d, model: {id: model.gguf}, "+
		"gpu: none, provisioning: {binary: {path: %q}}}\n", replicas, port, engine)
	path = filepath.Join(dir, "pools.yaml")
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600),
		os.WriteFile(filepath.Join(dir, "model.gguf"), []byte(enginetest.GGUF), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopDetached(t, dir) })
	return path, port
}

// TestServiceManagerWaitsForADownload gets more time for a download than a start is given.
func TestServiceManagerWaitsForADownload(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "ep") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	hub := hubtest.New()
	t.Cleanup(hub.Close)
	hub.Add("org/chat", "chat.gguf", []byte(enginetest.GGUF))
	config, _ := poolsFile(t, 1)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.Replace(string(text), "model.gguf", "'hf:org/chat'", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	manager := listenAs(t, filepath.Join(dir, "notify"))
	cmd := command(t, []string{
		"NOTIFY_SOCKET=" + filepath.Join(dir, "notify"), "HF_ENDPOINT=" + hub.API.URL, "HF_HOME=" + filepath.Join(dir, "hf"),
	}, "--config", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	manager.until("EXTEND_TIMEOUT_USEC=1500000000")
	manager.until("READY=1\nSTATUS=1 of 1 replicas ready")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := exitOf(t, cmd); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "ep") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for name, socket := range map[string]string{
		"path":     filepath.Join(dir, "notify"),
		"abstract": "@engine-provisioner-test-" + strconv.Itoa(os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			manager := listenAs(t, socket)
			config, port := poolsFile(t, 2)
			cmd := command(t, []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=20000"}, "--config", config)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			before := manager.until("READY=1\nSTATUS=2 of 2 replicas ready")
			for _, message := range before {
				if !strings.HasPrefix(message, "STATUS=") || !strings.HasSuffix(message, " of 2 replicas ready") {
					t.Errorf("before it was ready: %q", message)
				}
			}
			manager.until("WATCHDOG=1")
			manager.until("WATCHDOG=1")
			url := fmt.Sprintf("http://127.0.0.1:%d", port)
			for _, entry := range enginetest.Inspect(t, url).Env {
				if strings.HasPrefix(entry, "NOTIFY_") || strings.HasPrefix(entry, "WATCHDOG_") {
					t.Errorf("the engine has %s", entry)
				}
			}
			enginetest.Kill(t, url, enginetest.Death{Code: 1})
			manager.until("STATUS=1 of 2 replicas ready")
			manager.until("STATUS=2 of 2 replicas ready") // it was started again
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			manager.until("STOPPING=1\nSTATUS=stopping")
			if code := exitOf(t, cmd); code != 0 {
				t.Errorf("exit status %d", code)
			}
			// Nothing else was said, above all no sign of life, once the loop had ended.
			if after := manager.rest(); len(after) > 0 {
				t.Errorf("after STOPPING=1: %q", after)
			}
		})
	}
}

// TestWatchdogIsNoWrongConfiguration: systemd does not start again what exits with 2, as Go programs do at SIGABRT. The
// engine runs on, as after any end of a manager that nobody asked for.
func TestWatchdogIsNoWrongConfiguration(t *testing.T) {
	t.Parallel()
	config, port := poolsFile(t, 1)
	manager := command(t, nil, "--config", config)
	out, err := manager.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // "default/r0 ready …"
		t.Fatal(err)
	}
	if err := manager.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	_ = manager.Wait() // ProcessState says it
	if signalOf(manager) != syscall.SIGABRT {
		t.Errorf("the manager ended with %v", manager.ProcessState)
	}
	pid := enginetest.Inspect(t, fmt.Sprintf("http://127.0.0.1:%d", port)).PID
	if out, err := command(t, nil, "stop", "--config", config).Output(); err != nil {
		t.Errorf("stop: %v\n%s", err, out)
	}
	if stat, err := procfs.ReadStat(pid); err == nil && !stat.Dead() {
		t.Errorf("the engine, process %d, is still there", pid)
	}
}

// TestNoLifeWithoutWork: a tick that nobody takes tells nothing.
func TestNoLifeWithoutWork(t *testing.T) {
	socket := "@engine-provisioner-test-life-" + strconv.Itoa(os.Getpid())
	manager := listenAs(t, socket)
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "2000")
	n, err := newNotifier()
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	<-n.due()
	<-n.due()
	n.status("here")
	n.status("here") // told once
	n.alive()
	if first, second := manager.next(), manager.next(); first != "STATUS=here" || second != "WATCHDOG=1" {
		t.Errorf("told: %q, %q", first, second)
	}
}

func TestNoServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "2000")
	n, err := newNotifier()
	if err != nil || n.due() != nil {
		t.Errorf("a watchdog without a manager: %v", err)
	}
	n.ready("nobody is told")
	n.close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	n, err = newNotifier()
	if err == nil || !strings.Contains(err.Error(), "cannot reach the service manager") {
		t.Errorf("error: %v", err)
	}
	n.alive()
	n.close()
}

func TestWatchdogInterval(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0},
		{"30000000", "", 15 * time.Second},
		{"30000000", self, 15 * time.Second},
		{"30000000", "1", 0},
		{"0", self, 0},
		{"-5", self, 0},
		{"soon", self, 0},
		{"99999999999999", self, 0},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		if got := watchdogInterval(); got != c.want {
			t.Errorf("%q for %q: %s, want %s", c.usec, c.pid, got, c.want)
		}
	}
}

func TestRenderSystemd(t *testing.T) {
	t.Parallel()
	config, _ := poolsFile(t, 1)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	status, text, stderr := runHere(t, "render", "systemd", "--config", config, "--name", "chat")
	loaded, err := provisioner.LoadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	want, err := node.SystemdUnit(loaded, node.UnitSpec{Name: "chat", Executable: exe})
	if err != nil || status != 0 || text != want || stderr != "" {
		t.Errorf("status %d, stderr %q (%v):\n%s", status, stderr, err, text)
	}
	var unit renderedUnit
	_, text, _ = runHere(t, "render", "systemd", "-o", "json", "--config", config, "--name", "chat")
	if err := json.Unmarshal([]byte(text), &unit); err != nil || unit.Name != "chat.service" || unit.Text != want {
		t.Errorf("json: %v\n%s", err, text)
	}
	for _, args := range [][]string{
		{"render"},
		{"render", "systemd"},
		{"render", "launchd"},
		{"render", "systemd", "--config", config, "--name", "a/b"},
		{"render", "systemd", "--config", filepath.Join(t.TempDir(), "none.yaml")},
	} {
		if status, text, stderr := runHere(t, args...); status != exitUsage || text != "" || !strings.HasPrefix(stderr, "error: ") {
			t.Errorf("%v: status %d, %q, %q", args, status, text, stderr)
		}
	}
}
