package provisioner

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/local"
)

// RELIABILITY.md says what these tests prove, and with which counts.

// failpoints are the steps at which a manager kills itself, in the order of a launch's life.
var failpoints = []string{
	"before_start", "after_record", "after_fork", "after_running_record", "before_publish", "after_publish",
	"before_unpublish", "before_term", "after_term",
}

// strangerFlag makes the test binary a process that counts the signals that it gets.
const strangerFlag = "-chaos-stranger"

// strangerMain counts signals until stdin ends, if this process is to.
func strangerMain() {
	if len(os.Args) != 3 || os.Args[1] != strangerFlag {
		return
	}
	signals := make(chan os.Signal, 1000)
	signal.Notify(signals)
	fmt.Println("begun")
	_, _ = io.Copy(io.Discard, os.Stdin)
	signal.Stop(signals)
	close(signals)
	n := 0
	for s := range signals {
		if s != syscall.SIGURG && s != syscall.SIGCHLD { // Go's own
			n++
		}
	}
	fmt.Println(n)
	os.Exit(0)
}

// chaosCount is a count from the environment: make chaos asks for more.
func chaosCount(t *testing.T, name string, short int) (n int, long bool) {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return short, false
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no count", name, text)
	}
	return n, true
}

// Starting and stopping leaks nothing. It runs alone: it counts what the whole process has open.
func TestChaosCycles(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cycles, _ := chaosCount(t, "CHAOS_CYCLES", 30)
	cfg := fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{{Kind: enginetest.NewSession}}})
	cache := WithCacheDir(t.TempDir())
	cycle := func() {
		p, err := New(cfg, cache)
		if err == nil {
			err = p.Start(bounded(t))
		}
		if err == nil {
			_, err = p.WaitReady(bounded(t))
		}
		if err == nil {
			err = p.Stop(bounded(t))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cycle() // what is opened once stays open
	files, routines := len(openFiles(t)), runtime.NumGoroutine()
	for range cycles {
		cycle()
	}
	var moreFiles, moreRoutines int
	eventually(t, "goroutines have ended", func() bool {
		moreRoutines = runtime.NumGoroutine() - routines
		return moreRoutines <= 0
	})
	if moreFiles = len(openFiles(t)) - files; moreFiles > 2 {
		t.Errorf("%d descriptors more: %v", moreFiles, openFiles(t))
	}
	left := enginetest.Leftovers()
	temps, err := filepath.Glob(filepath.Join(os.TempDir(), local.TempPrefix+"*"))
	if len(left) > 0 || len(temps) > 0 || err != nil {
		t.Errorf("left: processes %v, folders %v (%v)", left, temps, err)
	}
	state, err := filesOf(cfg.StateDir, cfg.fileStem())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := readRecord(state)
	if err != nil || rec.State != StateStopped || rec.Generation != int64(cycles+1) {
		t.Errorf("record: %s, generation %d (%v)", rec.State, rec.Generation, err)
	}
	t.Logf("chaos: %d cycles: %d descriptors, %d goroutines, %d processes, %d folders left",
		cycles, max(0, moreFiles), max(0, moreRoutines), len(left), len(temps))
}

func openFiles(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		skip(t, "needs /proc: "+err.Error())
	}
	for _, e := range entries {
		if name, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			names = append(names, e.Name()+" "+name)
		}
	}
	return names
}
