package enginetest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func needLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
}

func TestChildren(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind              ChildKind
		sameGroup, sameSe bool
	}{
		{SameGroup, true, true},
		{OwnGroup, false, true},
		{NewSession, false, false},
		{DoubleFork, false, false},
	} {
		t.Run(orElse(string(tc.kind), "same-group"), func(t *testing.T) {
			t.Parallel()
			p := start(t, Behavior{Children: []Child{{Kind: tc.kind, IgnoreTerm: true}}}).waitReady(t)
			r := Inspect(t, p.url)
			if len(r.Children) != 1 || !alive(r.Children[0]) {
				t.Fatalf("children %v, want one that is alive", r.Children)
			}
			pid := r.Children[0]
			defer kill(t, pid)
			pgid, err := unix.Getpgid(pid)
			if err != nil || (pgid == r.PGID) != tc.sameGroup {
				t.Errorf("group %d (%v), the engine's is %d", pgid, err, r.PGID)
			}
			sid, err := unix.Getsid(pid)
			if err != nil || (sid == r.SID) != tc.sameSe {
				t.Errorf("session %d (%v), the engine's is %d", sid, err, r.SID)
			}
			if !slices.Contains(Leftovers(), pid) || !slices.Contains(Leftovers(), r.PID) {
				t.Errorf("leftovers %v, want also %d and %d", Leftovers(), r.PID, pid)
			}
			_ = syscall.Kill(pid, syscall.SIGTERM)
			p.signal(t, syscall.SIGTERM)
			p.wait(t)
			if !alive(pid) {
				t.Errorf("the child is gone with SIGTERM")
			}
		})
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for deadline := time.Now().Add(limit); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("process %d does not die", pid)
			return
		}
	}
}

// A child keeps an inherited lock and the log open, or not, as it is told.
func TestChildFiles(t *testing.T) {
	t.Parallel()
	needLinux(t)
	dir := t.TempDir()
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	b := Behavior{Children: []Child{{HoldStdout: true}, {CloseFDs: true, ClearEnv: true}, {Kind: DoubleFork, HoldStdout: true}}}
	cmd, url := command(t, b)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{lock}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	p := &process{url: url, cmd: cmd}
	p.waitReady(t)
	r := Inspect(t, url)
	if r.Files["3"] != lock.Name() || r.Files["2"] != log.Name() {
		t.Errorf("the engine's files: %v", r.Files)
	}
	for i, want := range []struct{ log, lock bool }{{true, true}, {false, false}, {true, true}} {
		pid := r.Children[i]
		defer kill(t, pid)
		if got := opens(t, pid, log.Name()); got != want.log {
			t.Errorf("child %d has the log open: %v, want %v", i, got, want.log)
		}
		if got := opens(t, pid, lock.Name()); got != want.lock {
			t.Errorf("child %d has the lock open: %v, want %v", i, got, want.lock)
		}
	}
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", r.Children[1])); err != nil || len(env) > 0 {
		t.Errorf("ClearEnv: the environment is %q, %v", env, err)
	}
}

func opens(t *testing.T, pid int, path string) bool {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(links) == 0 {
		t.Fatalf("cannot list the files of %d: %v", pid, err)
	}
	return slices.ContainsFunc(links, func(link string) bool {
		target, err := os.Readlink(link)
		return err == nil && target == path
	})
}

func TestLeftBehind(t *testing.T) {
	t.Parallel()
	needLinux(t)
	// Not t.TempDir: its path can be too long for a unix socket.
	tmp, err := os.MkdirTemp("", "et")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	const hog = 64 << 20
	b := Behavior{Shm: 1 << 16, TmpFiles: true, MemoryHog: hog, WipeEnviron: true}
	p := startEnv(t, b, []string{"TMPDIR=" + tmp, "CANARY=1"}).waitReady(t)
	r := Inspect(t, p.url)
	if !slices.Contains(r.Env, "CANARY=1") {
		t.Errorf("the engine lost its environment: %v", r.Env)
	}
	if env := proc(t, r.PID, "environ"); strings.Contains(env, "CANARY") {
		t.Errorf("WipeEnviron: /proc shows %q", env)
	}
	shm := fmt.Sprintf("/dev/shm/enginetest-%d", r.PID)
	defer func() { _ = os.Remove(shm) }()
	if !strings.Contains(proc(t, r.PID, "maps"), shm) {
		t.Errorf("%s is not mapped", shm)
	}
	var pages, resident int
	if _, err := fmt.Sscan(proc(t, r.PID, "statm"), &pages, &resident); err != nil || resident*os.Getpagesize() < hog {
		t.Errorf("resident memory is %d pages, %v; want at least %d bytes", resident, err, hog)
	}
	p.signal(t, syscall.SIGTERM)
	p.wait(t)
	for _, path := range []string{shm, filepath.Join(tmp, "enginetest-file"), filepath.Join(tmp, "enginetest.sock")} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

func proc(t *testing.T, pid int, file string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestStopSelf(t *testing.T) {
	t.Parallel()
	needLinux(t)
	p := start(t, Behavior{StopSelf: time.Millisecond})
	p.eventually(t, "the stop", func() bool {
		_, rest, _ := strings.Cut(proc(t, p.cmd.Process.Pid, "stat"), ") ")
		return strings.HasPrefix(rest, "T")
	})
	p.signal(t, syscall.SIGCONT)
	p.waitReady(t)
}

func TestLogs(t *testing.T) {
	t.Parallel()
	b := Behavior{LogText: "offloaded 3/3 layers to GPU\n", LogANSI: true, LogEnv: true, LogLine: 1 << 20, LogFlood: 1 << 20}
	p := startEnv(t, b, []string{"CANARY=1"}).waitReady(t)
	for _, want := range []string{
		"load_model: loading model '/models/m.gguf'\n", "\noffloaded 3/3 layers to GPU\n", "\x1b[1;31mred", " CANARY=1\n",
		strings.Repeat("x", 1<<20), "model loaded\n", "listening on " + p.url + "\n",
	} {
		p.eventually(t, want[:min(len(want), 80)], func() bool { return strings.Contains(p.log.String(), want) })
	}
	flood := regexp.MustCompile(`flood \d{12} f{80}\n`)
	p.eventually(t, "the flood", func() bool { return len(flood.FindAllString(p.log.String(), -1)) > 1000 })
}
