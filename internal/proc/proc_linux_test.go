package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/test/wait"
)

// helper is the environment variable by which this test binary is another program.
const helper = "PROC_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helper) {
	case "blocked": // becomes the next with SIGUSR1 blocked: SIGTERM is never blocked by Go
		runtime.LockOSThread()
		block := unix.Sigset_t{}
		block.Val[0] = 1 << (unix.SIGUSR1 - 1)
		if err := unix.PthreadSigmask(unix.SIG_SETMASK, &block, nil); err != nil {
			panic(err)
		}
		panic(syscall.Exec("/proc/self/exe", os.Args[:1], []string{helper + "=status", "PATH=" + os.Getenv("PATH")}))
	case "status": // prints what a process has that it starts, and then its own
		cmd := exec.Command("cat", "/proc/self/status")
		cmd.Stdout = os.Stdout
		if err := errors.Join(Start(cmd), cmd.Wait()); err != nil {
			panic(err)
		}
		own, _ := os.ReadFile("/proc/self/status")
		_, _ = os.Stdout.Write(own)
		return
	case "close": // prints the descriptors of what it starts like anybody
		CloseOnExec()
		out, err := exec.Command("sh", "-c", `cd /proc/self/fd && echo *`).Output()
		fmt.Print(string(out))
		if err != nil {
			panic(err)
		}
		return
	case "tied": // tells whom it has started, and stays
		cmd := exec.Command("sleep", "600")
		_, err := StartTied(cmd)
		fmt.Println(cmd.Process.Pid, err)
		select {}
	}
	os.Exit(m.Run())
}

// sleeper is a process that lives until the test ends.
func sleeper(t *testing.T, change func(*exec.Cmd), start func(*exec.Cmd) error) int {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.Env = append(os.Environ(), "LC_ALL=C") // else it opens files of its locale
	if change != nil {
		change(cmd)
	}
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

func startTied(t *testing.T) func(*exec.Cmd) error {
	return func(cmd *exec.Cmd) error {
		untie, err := StartTied(cmd)
		if err == nil {
			t.Cleanup(untie)
		}
		return err
	}
}

// descriptorsOf is what the process has open, by number.
func descriptorsOf(pid int) map[int]string {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	all := map[int]string{}
	for _, fd := range descriptors(dir) {
		if target, err := os.Readlink(fmt.Sprintf("%s/%d", dir, fd)); err == nil { // else it was closed meanwhile
			all[fd] = target
		}
	}
	return all
}

// inheritable is a descriptor of this program as those are that it was born with.
func inheritable(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestOnlyWhatIsListed(t *testing.T) {
	t.Parallel()
	own := inheritable(t)
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	lock, err := os.Create(filepath.Join(dir, "engine.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	whole := func(cmd *exec.Cmd) { cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{lock} }
	for name, c := range map[string]struct {
		change func(*exec.Cmd)
		start  func(*exec.Cmd) error
		want   map[int]string
	}{
		"nothing":   {nil, Start, map[int]string{0: os.DevNull, 1: os.DevNull, 2: os.DevNull}},
		"an engine": {whole, Start, map[int]string{0: os.DevNull, 1: log.Name(), 2: log.Name(), 3: lock.Name()}},
		"tied":      {whole, startTied(t), map[int]string{0: os.DevNull, 1: log.Name(), 2: log.Name(), 3: lock.Name()}},
	} {
		// The dynamic linker has the libraries open for a moment.
		pid := sleeper(t, c.change, c.start)
		wait.Until(t, fmt.Sprintf("%s: %v is all that is open, and not %v", name, c.want, descriptorsOf(pid)), func() bool {
			return maps.Equal(descriptorsOf(pid), c.want)
		})
	}
	if flags, err := unix.FcntlInt(own.Fd(), unix.F_GETFD, 0); err != nil || flags != 0 {
		t.Errorf("the program's own descriptor was changed: flags %d, %v", flags, err)
	}
}

// The way of older kernels, where close_range cannot do it.
func TestOlderKernels(t *testing.T) {
	t.Parallel()
	lock := inheritable(t)
	marked, err := make(chan int), error(nil)
	onOwnThread(func() {
		if err = unix.Unshare(unix.CLONE_FILES); err == nil {
			closeOnExec("/proc/thread-self/fd")
		}
		flags, _ := unix.FcntlInt(lock.Fd(), unix.F_GETFD, 0)
		marked <- flags
	})
	if flags := <-marked; flags != unix.FD_CLOEXEC || err != nil {
		t.Errorf("flags %d, %v", flags, err)
	}
	if flags, err := unix.FcntlInt(lock.Fd(), unix.F_GETFD, 0); err != nil || flags != 0 {
		t.Errorf("the program's own descriptor was changed: flags %d, %v", flags, err)
	}
}

// When a start has returned, no copy is left of what this program then closes. Alone: a start elsewhere has copies.
func TestNoCopies(t *testing.T) {
	for name, start := range map[string]func(*exec.Cmd) error{
		"started": Start, "tied": startTied(t),
		"failed": func(cmd *exec.Cmd) error {
			missing := exec.Command("/nothing/here")
			if err := Start(missing); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/nothing/here") {
				return fmt.Errorf("of a program that is not there: %w", err)
			}
			return Start(cmd)
		},
	} {
		path := filepath.Join(t.TempDir(), "lock")
		lock := func() (*os.File, error) {
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			return f, syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		}
		f, err := lock()
		r, w, pipe := os.Pipe()
		if err := errors.Join(err, pipe); err != nil {
			t.Fatal(err)
		}
		sleeper(t, nil, start)
		if err := errors.Join(f.Close(), w.Close()); err != nil {
			t.Fatal(err)
		}
		if f, err = lock(); err != nil {
			t.Errorf("%s: a lock that was let go is still held", name)
		}
		_ = f.Close()
		_ = r.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the pipe has no end: %v", name, err)
		}
		_ = r.Close()
	}
}

// Threads with descriptors of their own must not be the main one, whose descriptors are the program's in /proc, nor run
// anything else.
func TestProgramKeepsItsDescriptors(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			cmd := exec.Command("true")
			if err := errors.Join(Start(cmd), cmd.Wait()); err != nil {
				t.Error(err)
			}
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); target != os.DevNull {
				t.Errorf("a new file is not the program's: %q, %v", target, err)
			}
		})
	}
	all.Wait()
}

func TestSignalsAreUnblocked(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{helper + "=blocked", "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var masks []string
	for line := range strings.Lines(string(out)) {
		if mask, ok := strings.CutPrefix(line, "SigBlk:"); ok {
			masks = append(masks, strings.TrimSpace(mask))
		}
	}
	if want := []string{"0000000000000000", "0000000000000200"}; !slices.Equal(masks, want) {
		t.Errorf("blocked in the process and in its starter: %q, want %q", masks, want)
	}
}

func TestTied(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{helper + "=tied", "PATH=" + os.Getenv("PATH")}
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || strings.Contains(string(status), "State:\tZ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d has outlived its program", pid)
		}
	}
	// As long as this program lives, so does a tied process, whatever becomes of threads.
	pid = sleeper(t, nil, startTied(t))
	for range 50 {
		gone := make(chan struct{})
		onOwnThread(func() { close(gone) })
		<-gone
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Error(err)
	}
}

func TestWaitEndsWithTheContext(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "600")
	ctx, cancel := context.WithCancel(t.Context())
	if err := Start(cmd); err != nil {
		t.Fatal(err)
	}
	cancel()
	var exit *exec.ExitError
	if err := Wait(ctx, cmd); !errors.As(err, &exit) || exit.String() != "signal: killed" {
		t.Errorf("%v", err)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	for name, cmd := range map[string]*exec.Cmd{
		"a copied stream": {Path: "/bin/true", Stdout: io.Discard},
		"an input":        {Path: "/bin/true", Stdin: strings.NewReader("")},
		"a missing name":  exec.Command("no-such-program-here"),
	} {
		if err := Start(cmd); err == nil {
			t.Errorf("%s: started", name)
		}
	}
}

func TestCloseOnExec(t *testing.T) {
	t.Parallel()
	lock := inheritable(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{helper + "=close", "PATH=" + os.Getenv("PATH")}
	cmd.ExtraFiles = []*os.File{lock}
	if out, err := cmd.Output(); err != nil || string(out) != "0 1 2 3\n" {
		t.Errorf("the process of a program with one more descriptor has %q, %v", out, err)
	}
}
